"""Makes `twistd zeromsg` known. Every twistd here may load this, so it imports little."""

from twisted.application.service import ServiceMaker

zeromsg = ServiceMaker(
    "zeromsg",
    "zeromsg.service.assembly",
    "A node that carries messages between the peers of ZeroNet sites",
    "zeromsg",
)

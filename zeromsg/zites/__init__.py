"""Zites that come with the package: the demo's chat, and smaller examples.

Each is a directory of plain files. `shared` has what all of them use, and goes
into every site that is made of one (`zeromsg.service.site_templates`).
"""

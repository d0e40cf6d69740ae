// The node's own page: asks for the status every two seconds, and shows it.
// node_secret stands in the page; no other page can read it.
"use strict";

const STATUS_MS = 2000;
const byId = (id) => document.getElementById(id);
const state = byId("state");
let asking = null;

function element(name, className, ...content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

async function fetched(path, options = {}) {
  const response = await fetch("/ZeroMsg-Internal/" + path, {
    ...options, headers: { Authorization: "Page " + node_secret },
  });
  if (response.status === 401) throw new Error("this page is too old: reload it");
  if (!response.ok) throw new Error("the node refuses: " + response.status);
  return response.json();
}

function operate(cmd, params = {}) {
  return fetched("operator", { method: "POST", body: JSON.stringify({ cmd, params }) });
}

async function act(cmd, params, button) {
  button.disabled = true;
  try {
    const result = await operate(cmd, params);
    return result.error || "";
  } catch (problem) {
    return problem.message;
  } finally {
    button.disabled = false;
    refresh();
  }
}

function button(label, about, action) {
  const made = element("button", "", label);
  made.type = "button";
  made.setAttribute("aria-label", label + " " + about);
  made.addEventListener("click", (event) => { if (event.isTrusted) action(made); });
  return made;
}

// Rows are replaced only where they changed, so that focus stays where it is.
function fill(name, rows) {
  const body = byId(name).tBodies[0];
  byId(name).hidden = !rows.length;
  byId("no-" + name).hidden = rows.length > 0;
  rows.forEach(([key, make], place) => {
    const old = body.rows[place];
    if (old && old.dataset.key === key) return;
    const row = element("tr", "", ...make());
    row.dataset.key = key;
    if (old) old.replaceWith(row);
    else body.append(row);
  });
  while (body.rows.length > rows.length) body.lastChild.remove();
}

const cell = (...content) => element("td", "", ...content);

function siteRow(site) {
  return [JSON.stringify(site), () => {
    const link = element("a", "", site.title);
    link.href = "/" + site.address + "/";
    const console = element("a", "small", "messages");
    console.href = "/console/" + site.address;
    const badge = site.version_problem ? ["bad", site.files ? "earlier version" : "refused"]
      : !site.complete && site.own ? ["bad", "not as signed"]
      : !site.complete ? ["bad", site.missing ? site.missing + " files missing" : "fetching"]
      : site.takes_messages ? ["good", "ready"] : ["", "no messages"];
    const about = element("span", "badge " + badge[0], badge[1]);
    about.title = site.version_problem || site.problem;
    const actions = element("td", "act");
    if (!site.configured) actions.append(button("Leave", site.title, (pressed) => leave(site, pressed)));
    return [
      cell(link, " ", console, element("br"), element("code", "", site.address)),
      cell(about, site.own ? " own" : ""),
      cell(String(site.peers)), cell(String(site.clients)), cell(String(site.queued)), actions,
    ];
  }];
}

async function leave(site, pressed) {
  if (!confirm("Leave " + site.title + "? Its files on this node are deleted.")) return;
  byId("joined").textContent = await act("site_leave", { address: site.address }, pressed);
}

function peerRow(link) {
  const about = (link.dialled ? "dialled" : "accepted") + (link.tor ? ", Tor" : link.encrypted ? ", TLS" : ", plain");
  return [JSON.stringify(link), () => [
    cell(link.peer), cell(about), cell(link.zeromsg ? "zeromsg" : "ZeroNet"), cell(String(link.points)),
  ]];
}

function banRow(ban) {
  return [JSON.stringify(ban), () => {
    const pardon = button("Pardon", ban.identity,
      (pressed) => act("pardon", { identity: ban.identity }, pressed));
    return [
      cell(ban.identity), cell(new Date(ban.until * 1000).toLocaleString()),
      cell(ban.reason, ban.strikes > 1 ? " (" + ban.strikes + " times)" : ""),
      element("td", "act", pardon),
    ];
  }];
}

function figure(value, label) {
  return element("li", "", element("b", "", String(value)), element("span", "", label));
}

function count(label, value, className = "") {
  return element("div", className, element("dt", "", label), element("dd", "", String(value)));
}

function show(status, bans) {
  state.className = "";
  state.textContent = "running, version " + status.version + ", port for peers: "
    + (status.peer_port || "none");
  const messages = status.messages;
  byId("figures").replaceChildren(
    figure(status.sites.length, "sites"), figure(status.links.length, "peers"),
    figure(status.clients, "open pages and programs"), figure(messages.received, "messages received"),
  );
  byId("counts").replaceChildren(
    count("received", messages.received), count("accepted", messages.accepted),
    count("known already", messages.duplicates), count("passed on", messages.relayed),
    count("waiting for a verdict", messages.waiting_for_verdict),
    count("waiting for a reply", messages.waiting_for_reply),
    ...Object.entries(messages.refused).map(([check, number]) => count("refused: " + check, number, "refused")),
  );
  fill("site-list", status.sites.map(siteRow));
  fill("peer-list", status.links.map(peerRow));
  fill("ban-list", bans.map(banRow));
}

async function refresh() {
  clearTimeout(asking);
  try {
    const [status, found] = await Promise.all([fetched("status"), operate("bans")]);
    show(status, found.bans);
  } catch (problem) {
    state.className = "bad";
    state.textContent = problem instanceof TypeError ? "the node does not answer; trying again" : problem.message;
  }
  asking = setTimeout(refresh, STATUS_MS);
}

byId("join").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = byId("address");
  const problem = await act("site_join", { address: field.value }, event.submitter || field);
  byId("joined").textContent = problem || "Looking for peers that have it.";
  if (!problem) field.value = "";
});

refresh();

// What the page does by itself: it updates the parts marked `data-live`, adds items to lists in
// forms, copies texts, and keeps times fresh. Everything else works without it.
"use strict";

(() => {
  // Times.

  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

  function formatAge(seconds) {
    const away = Math.abs(seconds);
    if (away < 1) return "now";
    const [size, name] = units.find(([unit]) => away >= unit);
    const text = `${Math.floor(away / size)} ${name}`;
    return seconds > 0 ? `${text} ago` : `in ${text}`;
  }

  function formatClock(when) {
    const hours = { hourCycle: "h23" };
    if (when.toDateString() === new Date().toDateString()) return when.toLocaleTimeString([], hours);
    return when.toLocaleString([], { ...hours, dateStyle: "medium", timeStyle: "medium" });
  }

  function refreshTimes(root) {
    for (const element of root.querySelectorAll("time")) {
      const when = new Date(element.dateTime);
      const local = when.toLocaleString([], { dateStyle: "medium", timeStyle: "long" });
      if (element.title !== local) element.title = local;
      const text = element.classList.contains("clock")
        ? formatClock(when)
        : formatAge((Date.now() - when) / 1000);
      if (element.textContent !== text) element.textContent = text;
    }
  }

  // Live parts. One that is held keeps what it shows while somebody reads it.

  const button = document.getElementById("live-state");
  let source = null;
  let stopped = false;
  let connected = false;
  let loading = false;
  let again = false;
  const pending = new Map();

  function isSelected(part) {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  }

  // A button that copies, or the line that unfolds a part, is the same after an update.
  function findFocus(part) {
    const active = document.activeElement;
    if (!part.contains(active)) return "";
    if (active.matches("[data-copy][id]")) return `#${CSS.escape(active.id)}`;
    if (active.matches("details[id] > summary")) return `#${CSS.escape(active.parentElement.id)} > summary`;
    return "";
  }

  function isHeld(part) {
    if (stopped || isSelected(part)) return true;
    const active = document.activeElement;
    if (part.contains(active) && active !== part && !findFocus(part)) return true;
    if (!("hold" in part.dataset)) return false;
    const table = part.querySelector("table");
    if (!table) return false;
    return table.matches(":hover") || table.getBoundingClientRect().top < 0;
  }

  function replace(part, fresh) {
    const open = [...part.querySelectorAll("details[open]")].map((element) => element.id);
    const focus = findFocus(part);
    part.replaceWith(fresh);
    for (const id of open) {
      const element = id && document.getElementById(id);
      if (element) element.open = true;
    }
    const focused = focus && document.querySelector(focus);
    if (focused) focused.focus({ preventScroll: true });
    refreshTimes(fresh);
    htmx.process(fresh);
  }

  function settle() {
    for (const [id, fresh] of pending) {
      const part = document.getElementById(id);
      if (part && isHeld(part)) continue;
      pending.delete(id);
      if (part) replace(part, fresh);
    }
    const parts = [...document.querySelectorAll("[data-live]")];
    const held = parts.some((part) => "hold" in part.dataset && isHeld(part));
    const off = !stopped && !connected;
    let text = stopped ? "Paused" : held ? "Paused while you read" : off ? "Connecting" : "Live";
    if (pending.size) text += " · there is more";
    show(text, stopped || held, off);
  }

  function show(text, held, off) {
    const label = document.getElementById("live-text");
    if (label.textContent !== text) label.textContent = text;
    button.classList.toggle("held", held);
    button.classList.toggle("off", off && !held);
    button.setAttribute("aria-pressed", String(stopped));
  }

  async function load() {
    if (loading) {
      again = true;
      return;
    }
    loading = true;
    const begin = performance.now();
    try {
      const response = await fetch(location.href, { credentials: "same-origin" });
      // The session has ended: the hub shows the form to sign in, which leads back here.
      if (response.redirected || response.status === 401) {
        location.reload();
        return;
      }
      if (response.ok) {
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        for (const fresh of page.querySelectorAll("[data-live]")) {
          const part = document.getElementById(fresh.id);
          if (!part) continue;
          if (part.dataset.version === fresh.dataset.version) pending.delete(fresh.id);
          else pending.set(fresh.id, document.importNode(fresh, true));
        }
      }
    } catch {
      // The hub stops, or the network does; the stream of events says when to try again.
    }
    settle();
    // A search that takes the hub long is not repeated at once.
    setTimeout(() => {
      loading = false;
      if (again) {
        again = false;
        load();
      }
    }, 4 * (performance.now() - begin));
  }

  function connect() {
    if (source || document.hidden) return;
    source = new EventSource("/events");
    source.addEventListener("open", () => {
      connected = true;
      load();
    });
    source.addEventListener("change", load);
    source.addEventListener("error", () => {
      connected = false;
      settle();
      // Refused: the session has ended, or too many pages are open.
      if (source && source.readyState === EventSource.CLOSED) {
        source = null;
        load();
        setTimeout(connect, 5000);
      }
    });
  }

  function disconnect() {
    if (source) source.close();
    source = null;
  }

  function startLive() {
    const parts = [...document.querySelectorAll("[data-live]")];
    if (!parts.length || !button) return;
    button.hidden = false;
    button.addEventListener("click", () => {
      stopped = !stopped;
      settle();
    });
    const seconds = Math.min(...parts.map((part) => Number(part.dataset.every || Infinity)));
    if (Number.isFinite(seconds)) {
      setInterval(() => document.hidden || load(), seconds * 1000);
    }
    setInterval(() => document.hidden || settle(), 300);
    // A hidden page keeps no connection: browsers have few of them for each server.
    document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
    window.addEventListener("pagehide", disconnect);
    window.addEventListener("pageshow", connect);
    connect();
  }

  // Lists in forms.

  let items = 0;

  function addItem(list) {
    const template = list.querySelector(":scope > template");
    const holder = document.createElement("template");
    items += 1;
    holder.innerHTML = template.innerHTML.replaceAll(template.dataset.placeholder, `n${items}`);
    const item = holder.content.firstElementChild;
    list.querySelector(":scope > [data-items]").append(item);
    const first = item.querySelector("input:not([type=hidden]), select, textarea, button");
    if (first) first.focus();
  }

  document.addEventListener("click", (event) => {
    const add = event.target.closest("[data-add]");
    const remove = event.target.closest("[data-remove]");
    if (add) addItem(add.parentElement);
    if (remove) {
      const list = remove.closest("fieldset.list");
      remove.closest(".item").remove();
      list.querySelector(":scope > [data-add]").focus();
    }
  });

  // Copies of what is shown.

  async function copy(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    // Browsers give the clipboard only to pages of this machine, and to pages with TLS.
    const field = document.createElement("textarea");
    const before = document.activeElement;
    field.value = text;
    field.className = "hidden";
    document.body.append(field);
    field.select();
    const isCopied = document.execCommand("copy");
    field.remove();
    before.focus({ preventScroll: true });
    if (!isCopied) throw new Error("the browser does not copy");
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    let result = "Copied";
    try {
      await copy(document.getElementById(button.dataset.copy).textContent);
    } catch {
      result = "Not copied";
    }
    const [word, what] = button.children;
    const said = document.getElementById("copied");
    word.textContent = result;
    said.textContent = `${result}: ${what.textContent}`;
    setTimeout(() => {
      word.textContent = "Copy";
      said.textContent = "";
    }, 2000);
  });

  // Problems of a result that came later than the form, each beside its field.

  function placeProblems() {
    for (const problem of document.querySelectorAll("[data-problem-path]")) {
      for (const message of document.querySelectorAll("[data-path]")) {
        if (message.dataset.path !== problem.dataset.problemPath) continue;
        message.textContent = problem.textContent;
        const input = document.querySelector(`[aria-describedby="${CSS.escape(message.id)}"]`);
        if (input) input.setAttribute("aria-invalid", "true");
      }
      problem.remove();
    }
  }

  document.addEventListener("htmx:afterSettle", () => {
    placeProblems();
    refreshTimes(document);
    const invalid = document.querySelector("#run [aria-invalid=true]");
    if (invalid && document.activeElement === document.body) invalid.focus();
  });

  // The key / goes to the search; on some keyboards it needs Shift.

  document.addEventListener("keydown", (event) => {
    const field = document.querySelector("[aria-keyshortcuts='/']");
    const isTyped = event.key === "/" && !event.ctrlKey && !event.altKey && !event.metaKey;
    if (!field || !isTyped || event.target.closest("input, select, textarea")) return;
    event.preventDefault();
    field.select();
  });

  // The link that `arbprov dev` prints has the token behind its #, which no server gets to see.

  function signInByLink() {
    const field = document.getElementById("token");
    const token = new URLSearchParams(location.hash.slice(1)).get("token");
    if (!field || !token) return;
    history.replaceState(null, "", location.pathname + location.search);
    field.value = token;
    field.form.submit();
  }

  // The link may also be opened where the form is shown already.
  window.addEventListener("hashchange", signInByLink);

  document.addEventListener("DOMContentLoaded", () => {
    signInByLink();
    refreshTimes(document);
    setInterval(() => document.hidden || refreshTimes(document), 1000);
    startLive();
  });
})();

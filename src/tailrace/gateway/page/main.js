// The page: one conversation is shown, the others are listed; everything meets here.

import { models as listModels } from "./api.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { copyAnswer, copyCode, copyText } from "./copying.js";
import { Drawer } from "./drawer.js";
import { load, t } from "./i18n.js";
import { onRuns, resumeKept } from "./keepers.js";
import { listen } from "./keys.js";
import { watchLink } from "./link.js";
import { watchLock } from "./lock.js";
import { panel } from "./panels.js";
import { prefs } from "./prefs.js";
import { render } from "./rendered.js";
import { ScrollKeeper } from "./scroll.js";
import { settings, switchTheme } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Thread } from "./thread.js";
import { toast } from "./toast.js";
import { fillModels, Tuning } from "./tuning.js";
import { watchOf } from "./watches.js";

const byId = (id) => document.getElementById(id);

let current = null; // the conversation
let shown = false; // it, and not the one before
let models = { models: [], default: "" };

const drawer = new Drawer();
const others = "BroadcastChannel" in window ? new BroadcastChannel("tailrace") : null; // our other tabs
const scroll = new ScrollKeeper(byId("log"), byId("column"), byId("to-end"));
const thread = new Thread({
  async edit(question, text) {
    if (!(await act(() => current.edit(question, text)))) composer.restore(text);
  },
  regenerate: (answer) => act(() => current.regenerate(current.tree.get(answer.parent))),
  resume: (answer) => act(() => current.resume(answer)),
  copy: copyText,
  copyAnswer,
  version,
  watch: watchOf,
});
const composer = new Composer({ ask: (text) => act(() => current.ask(text)), stop: () => current.stop(), editLast });
const sidebar = new Sidebar({ open: openFromList, deleted, renamed, trouble });
const tuning = new Tuning({ settings: () => current.settings, set: (values) => current.set(values) });

// -- the conversation that is shown -----------------------------------------------------------------------------------

const tell = {
  changed(conversation) {
    if (conversation === current && shown) present();
  },
  renamed(old, id) {
    thread.rename(old, id);
  },
  created(conversation) {
    if (conversation !== current) return;
    history.replaceState(null, "", `/c/${encodeURIComponent(conversation.id)}`);
    composer.rename(conversation.id);
    sidebar.mark(conversation.id);
  },
  turned(conversation) {
    sidebar.refresh();
    others?.postMessage(conversation.id);
  },
  unsent(error) {
    if (error.status === 0) toast(t("not_sent"));
    else trouble(error);
  },
  trouble,
};

/** Shows an empty conversation; it begins with its first question. */
function startNew() {
  leave(new Conversation(null, { model: prefs.get("model") || null, system: null, options: {}, think: null }, tell));
  shown = true;
  present();
}

async function open(id) {
  const conversation = new Conversation(id, { model: null, system: null, options: {}, think: null }, tell);
  leave(conversation);
  try {
    await conversation.read();
    await firstHtml(conversation.tree.branch);
  } catch (error) {
    if (conversation !== current) return;
    if (error.status !== 404) return trouble(error);
    toast(t("not_found"));
    return go("/");
  }
  if (conversation !== current) return;
  shown = true;
  present();
  scroll.toEnd();
}

/** Waits until the end of a branch can be shown as it is meant to be, or never will. */
function firstHtml(branch) {
  const kept = branch.filter(({ run }) => !run);
  return new Promise((resolve) => render(kept, resolve).then(resolve, resolve));
}

function leave(next) {
  current?.close();
  current = next;
  shown = false;
  composer.open(next.id);
  sidebar.mark(next.id);
}

function present() {
  thread.show(current.tree);
  fillIn();
  presentState();
  presentTitle();
  fillModels(byId("model"), models, current.settings.model);
}

function presentState() {
  const answer = current.running;
  composer.update({ running: answer !== null, stopping: answer?.stopping ?? false });
  document.body.classList.toggle("running", answer !== null);
}

function presentTitle() {
  const title = current.title || sidebar.titleOf(current.id);
  byId("title").textContent = title || t("new_conversation");
  document.title = title ? `${title} · tailrace` : "tailrace";
}

let filling = false;

/** Gets the HTML that is lacking; meanwhile more may be. */
async function fillIn() {
  if (filling) return;
  filling = true;
  try {
    while (thread.lacking.length > 0) await render(thread.lacking, () => shown && thread.show(current.tree));
  } catch (error) {
    trouble(error);
  }
  filling = false;
}

/** Does what brings a new answer, with its end in view. */
function act(what) {
  const done = what();
  scroll.toEnd();
  return done;
}

function version(id, direction) {
  if (current.tree.get(id).parent !== current.tree.get(current.tree.leaf).parent) scroll.release();
  current.show(id);
  thread.view(id).branches.focus(direction);
}

function editLast() {
  const question = current.lastQuestion;
  if (question === null) return false;
  thread.view(question.id).edit();
  return true;
}

// -- the others -------------------------------------------------------------------------------------------------------

function go(path) {
  history.pushState(null, "", path);
  route();
}

function route() {
  const id = /^\/c\/([^/]+)$/.exec(location.pathname)?.[1];
  if (id) return open(decodeURIComponent(id));
  return startNew();
}

function openFromList(id) {
  drawer.close();
  if (id !== current.id) go(`/c/${encodeURIComponent(id)}`);
}

function create() {
  drawer.close();
  if (current.id !== null) go("/");
  composer.focus();
}

function deleted(id) {
  if (id === current.id) go("/");
}

function renamed(id, title) {
  if (id === current.id) {
    current.title = title;
    presentTitle();
  }
  others?.postMessage(id);
}

/** Something did not work. That the server cannot be reached is shown in a line of its own. */
function trouble(error) {
  if (error.status === 0 || error.status === 401) return; // and a key is being asked for
  if (error.status === undefined) throw error;
  toast([error.message, error.hint].filter(Boolean).join(" "));
}

function reread(id) {
  sidebar.refresh();
  if (id === undefined || id === current.id) current.read().catch(trouble);
}

/** The server is there, or is open, and was not: reads what could not be read. */
function again() {
  readModels();
  if (shown || current.id === null) reread();
  else route();
  sidebar.refresh();
}

async function readModels() {
  try {
    models = await listModels();
    byId("no-model").hidden = models.models.length > 0;
    fillModels(byId("model"), models, current.settings.model);
  } catch (error) {
    trouble(error);
  }
}

// -- the start --------------------------------------------------------------------------------------------------------

function listenToAll() {
  const help = panel("help");
  const openSettings = settings(() => {
    sidebar.update();
    present();
  });
  const search = () => {
    drawer.open();
    sidebar.focusSearch();
  };
  const stop = () => current.running !== null && (current.stop(), true);
  listen({ stop, search, create, help, closeDrawer: () => drawer.close() });
  byId("new").addEventListener("click", create);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault(); // another address would be another conversation
    composer.focus();
  });
  byId("open-help").addEventListener("click", help);
  byId("open-settings").addEventListener("click", openSettings);
  byId("open-tuning").addEventListener("click", () => tuning.open());
  byId("switch-theme").addEventListener("click", switchTheme);
  byId("model").addEventListener("change", ({ target }) => {
    prefs.set("model", target.value);
    current.set({ model: target.value });
  });
  window.addEventListener("popstate", route);
  document.addEventListener("visibilitychange", () => document.hidden || reread());
  others?.addEventListener("message", ({ data }) => reread(data));
  onRuns((conversation) => {
    if (conversation === current.id && shown) presentState();
    reread(conversation);
  });
  copyCode(byId("log"));
  watchLink(again);
  watchLock(again);
}

/** Keeps the page as high as what is left of the screen above a keyboard. */
function fitToKeyboard() {
  const view = window.visualViewport;
  view?.addEventListener("resize", () => {
    const zoomed = view.scale > 1; // by fingers: that is to show less of the page, not to make it smaller
    if (!zoomed) document.documentElement.style.setProperty("--height", `${view.height}px`);
  });
}

await load();
listenToAll();
fitToKeyboard();
route();
resumeKept();
document.body.hidden = false;
if (current.id === null && matchMedia("(pointer: fine)").matches) composer.focus();
await Promise.all([sidebar.refresh(), readModels()]);
presentTitle();

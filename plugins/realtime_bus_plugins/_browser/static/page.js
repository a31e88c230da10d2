// The page: buttons, captions, meters. The conversation itself is in client.js.

import { Conversation, heard } from "./client.js";

const STATES = {
  idle: "Ready when you are",
  asking: "May the page use the microphone?",
  connecting: "Connecting…",
  live: "Listening",
  reconnecting: "Connection lost. Trying again…",
  paused: "The sound is paused",
  ended: "The conversation is over",
};

const $ = (id) => document.getElementById(id);
const conversation = new Conversation();
const captions = new Map(); // by id: {caption, row, text, rest, cut}
let turn = {};
let cut_at = 0; // the stream's position of the last interruption
let last_drawn = -1;

// --- captions ---------------------------------------------------------------------------------

function element(name, className, text = "") {
  return Object.assign(document.createElement(name), { className, textContent: text });
}

function row_of(caption) {
  const row = element("li", caption.who);
  const name = element("b", "", caption.who === "person" ? "You" : "Assistant");
  const words = element("p");
  const parts = { row, text: element("span"), cut: element("span", "cut"), rest: element("span", "rest") };
  words.append(parts.text, parts.cut, parts.rest);
  row.append(name, words);
  $("captions").append(row);
  return parts;
}

function draw(entry) {
  const { caption, text, rest, cut, row } = entry;
  // until the server has said so, the page knows itself that an answer was cut off
  const by_us = caption.start !== null && caption.start < cut_at && entry.cut_at !== undefined;
  const interrupted = caption.heard_ms !== null || by_us;
  const position = by_us ? entry.cut_at : conversation.heard;
  const said = heard(caption, position);
  text.textContent = interrupted ? `${caption.text.slice(0, said)} ` : caption.text.slice(0, said);
  rest.textContent = interrupted ? caption.text.slice(said).trim() : caption.text.slice(said);
  row.classList.toggle("interrupted", interrupted);
  row.classList.toggle("waiting", !caption.text && !caption.done);
  if (caption.who === "person" && !caption.text && caption.done) text.textContent = "(spoken)";
  const seconds = caption.heard_ms !== null ? caption.heard_ms / 1000 : (position - caption.start) / 24000;
  cut.textContent = !interrupted ? "" : seconds > 0 ? `interrupted at ${seconds.toFixed(1)} s` : "not heard";
  entry.open = !interrupted && said < caption.text.length;
}

function near_the_end() {
  const page = document.scrollingElement;
  return page.scrollHeight - page.scrollTop - page.clientHeight < 120;
}

function keep_in_view(change) {
  const follow = near_the_end();
  change();
  if (follow) document.scrollingElement.scrollTo({ top: document.scrollingElement.scrollHeight });
}

conversation.addEventListener("caption", ({ detail: caption }) => {
  keep_in_view(() => {
    const entry = captions.get(caption.id) ?? row_of(caption);
    entry.caption = caption;
    captions.set(caption.id, entry);
    draw(entry);
  });
});

conversation.addEventListener("interrupt", ({ detail: { position } }) => {
  cut_at = position + 1;
  for (const entry of captions.values()) {
    const { start, samples, who } = entry.caption;
    if (who === "assistant" && start !== null && start + samples > position) entry.cut_at ??= position;
    draw(entry);
  }
});

// --- state ------------------------------------------------------------------------------------

function show_state() {
  const { state } = conversation;
  const live = state === "live";
  const { speaking } = conversation;
  document.body.dataset.state = state;
  document.body.dataset.who = !live ? "" : turn.person ? "person" : speaking ? "assistant" : "";
  $("status").textContent = !live ? STATES[state]
    : turn.person ? "You are speaking"
    : speaking ? "The assistant is speaking"
    : turn.thinking ? "Thinking…"
    : conversation.muted ? "Muted" : STATES.live;
  $("start").textContent = state === "ended" ? "Start again" : "Start";
  $("mute").setAttribute("aria-pressed", conversation.muted);
  $("mute").firstChild.textContent = conversation.muted ? "Unmute" : "Mute";
}

conversation.addEventListener("state", ({ detail: state }) => {
  if (state === "live") $("notice").hidden = true;
  show_state();
});

conversation.addEventListener("turn", ({ detail }) => {
  turn = detail;
  show_state();
});

conversation.addEventListener("notice", ({ detail: { kind, text } }) => {
  if (kind === "anew") $("captions").append(element("li", "break", "a new conversation"));
  $("notice").textContent = text;
  $("notice").hidden = false;
});

// drawn as the screen is: a tab in the background draws nothing, and talks on
function animate() {
  const { microphone, loudspeaker } = conversation.levels;
  const loud = (level) => Math.min(1, Math.max(0, 1 + Math.log10(level + 1e-6) / 2.2)); // -44 dB is none
  $("meter").style.setProperty("--level", loud(microphone).toFixed(3));
  $("wave").style.setProperty("--level", loud(turn.person ? microphone : loudspeaker).toFixed(3));
  if (conversation.heard !== last_drawn) {
    last_drawn = conversation.heard;
    for (const entry of captions.values()) if (entry.open) draw(entry);
  }
  show_state();
  requestAnimationFrame(animate);
}
requestAnimationFrame(animate);

// --- buttons ----------------------------------------------------------------------------------

const mute = () => {
  conversation.muted = !conversation.muted;
  show_state();
};

$("start").onclick = () => {
  $("notice").hidden = true;
  if (conversation.state === "ended") {
    captions.clear();
    $("captions").replaceChildren();
  }
  cut_at = 0;
  conversation.start();
};
$("resume").onclick = () => conversation.resume();
$("mute").onclick = mute;
$("quiet").onclick = () => conversation.interrupt();
$("stop").onclick = () => conversation.stop();

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (!["live", "reconnecting", "paused"].includes(conversation.state)) return;
  if (event.key === "m") mute();
  if (event.key === "Escape") conversation.interrupt();
});

export { conversation }; // for the console, and for tests

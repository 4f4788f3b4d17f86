// The page of `expose web`. What is shown is in the address (after #), so that reload and back lose nothing; the queue is
// the server's.
"use strict";

const $ = id => document.getElementById(id);
const CONTROLS = ["ratio", "steps", "samples", "luma", "chroma", "faithful", "ev", "white_balance", "black"];
const USUAL = Object.fromEntries([...CONTROLS, "over", "format"].map(name => [name, $(name).value]));
const MAPS = {
  overruled: "orange: made brighter, blue: made darker than the network had it; full colour: 2 % of white",
  spread: "yellow: how much samples differ; full colour: 2 % of white",
  mended: "magenta: hot, warm and dead sites that were mended",
};
const state = { photo: "", x: null, y: null, at: 50 };
let album = [], limit = 0, size = null, scale = 1, loading = null, developed = null, playing = 0, polling = 0;

// ---- the address

function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  const number = name => words.has(name) && isFinite(words.get(name)) ? Number(words.get(name)) : null;
  Object.assign(state, { photo: words.get("photo") ?? "", x: number("x"), y: number("y"), at: number("at") ?? 50 });
  for (const name in USUAL) $(name).value = words.get(name) ?? USUAL[name];
  $("at").value = state.at;
  showValues();
}

function address() {
  const words = new URLSearchParams();
  if (state.photo) words.set("photo", state.photo);
  if (state.x !== null) { words.set("x", state.x.toFixed(4)); words.set("y", state.y.toFixed(4)); }
  for (const name in USUAL) if ($(name).value !== USUAL[name]) words.set(name, $(name).value);
  if (Number($("at").value) !== 50) words.set("at", $("at").value);
  return "#" + words;
}

function remember(anew) {
  if (address() !== location.hash) history[anew ? "pushState" : "replaceState"](null, "", address());
}

// ---- talking to the server

class Failure extends Error {}

async function ask(path, options) {
  let answer;
  try { answer = await fetch(path, options); } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("the program does not answer: is `expose web` still running?");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Failure(said.error ?? `the program answered ${answer.status}`);
}

function say(text) {
  $("message").hidden = !text;
  $("message").firstElementChild.textContent = text;
}

function failed(error) {
  if (error.name === "AbortError") return;
  say(error.message);
  if (!(error instanceof Failure)) console.error(error);
}

function asked() {
  const words = new URLSearchParams();
  for (const name of CONTROLS) if ($(name).value !== USUAL[name]) words.set(name, $(name).value);
  return words;
}

// ---- the album

async function loadAlbum() {
  const found = await (await ask("/api/photographs")).json();
  album = found.photographs;
  limit = found.limit;
  $("album").replaceChildren(...album.map(one => {
    const item = document.createElement("li"), button = document.createElement("button");
    const picture = document.createElement("img"), name = document.createElement("span");
    Object.assign(button, { type: "button", title: one.name, onclick: () => open(one.key) });
    button.dataset.key = one.key;
    Object.assign(picture, { alt: "", loading: "lazy", src: `/api/photographs/${one.key}/thumbnail` });
    picture.onerror = () => picture.classList.add("broken");
    name.textContent = one.name;
    button.append(picture, name);
    item.append(button);
    return item;
  }));
  $("save-all").disabled = !album.length;
  markCurrent();
}

function markCurrent() {
  const one = album.find(one => one.key === state.photo);
  for (const button of $("album").querySelectorAll("button"))
    button.setAttribute("aria-current", button.dataset.key === state.photo);
  $("title").textContent = one ? one.name : album.length ? "choose a photograph" : "no photograph yet";
  document.title = one ? `${one.name} – expose` : "expose";
  for (const id of ["zoom", "develop", "save"]) $(id).disabled = !one;
}

function open(key) {
  if (key === state.photo && state.x === null) return;
  Object.assign(state, { photo: key, x: null, y: null });
  remember(true);
  show(true);
}

function neighbour(by) {
  const now = album.findIndex(one => one.key === state.photo);
  const next = album[Math.min(album.length - 1, Math.max(0, now + by))];
  if (next) { open(next.key); $("album").querySelector(`[data-key="${next.key}"]`)?.scrollIntoView({ block: "nearest" }); }
}

async function upload(files) {
  for (const file of files) {
    if (file.size > limit) { say(`${file.name}: larger than ${limit / 1e6} MB, the limit (--max-upload)`); continue; }
    busy(`taking ${file.name}`);
    try {
      const path = "/api/photographs?" + new URLSearchParams({ name: file.name });
      const one = await (await ask(path, { method: "POST", body: file })).json();
      await loadAlbum();
      open(one.key);
    } catch (error) { failed(error); }
  }
  busy("");
}

// ---- the view

const isPart = () => state.x !== null;

function place() {
  const words = asked(), ratio = Math.min(devicePixelRatio || 1, 2);
  if (isPart()) {
    words.set("x", state.x); words.set("y", state.y);
    words.set("width", Math.round($("stage").clientWidth * ratio));
    words.set("height", Math.round($("stage").clientHeight * ratio));
  }
  return words;
}

function busy(text) { $("busy").textContent = text; $("stage").setAttribute("aria-busy", Boolean(text)); }

function put(image, blob) {
  const old = image.src;
  image.src = URL.createObjectURL(blob);
  if (old.startsWith("blob:")) URL.revokeObjectURL(old);
  return image.decode().catch(() => { throw new Failure("the browser cannot show this picture"); });
}

function fit() {
  const image = $("after").naturalWidth ? $("after") : $("before");
  if (!image.naturalWidth) return;
  const { clientWidth: width, clientHeight: height } = $("stage");
  const ratio = Math.min(devicePixelRatio || 1, 2);
  scale = isPart() ? 1 / ratio : Math.min(width / image.naturalWidth, height / image.naturalHeight);
  $("pictures").style.width = `${image.naturalWidth * scale}px`;
  $("pictures").style.height = `${image.naturalHeight * scale}px`;
  $("pictures").style.transform = "";
}

async function show(anew = false) {
  loading?.abort();
  const mine = loading = new AbortController(), signal = mine.signal;
  closeDevelopment();
  say("");
  markCurrent();
  $("zoom").textContent = isPart() ? "Whole" : "100 %";
  $("pictures").classList.toggle("part", isPart());
  $("invitation").hidden = Boolean(state.photo);
  $("legend").textContent = MAPS[$("over").value] ?? "";
  if (!state.photo) { $("pictures").hidden = true; busy(""); return; }
  if (anew) {
    for (const id of ["before", "after", "map"]) $(id).removeAttribute("src");
    $("facts").textContent = "";
  }
  const one = `/api/photographs/${state.photo}`;
  const get = async (path, words) => ask(`${one}/${path}?${words}`, { signal });
  const view = async which => {
    const words = place();
    words.set("which", which);
    const answer = await get("view", words);
    size = { width: Number(answer.headers.get("x-photograph-width")), height: Number(answer.headers.get("x-photograph-height")) };
    const blob = await answer.blob();
    signal.throwIfAborted();
    await put($(which), blob);
    $("pictures").hidden = false;
    fit();
  };
  busy(isPart() ? "enhancing this part" : "looking at the whole frame");
  try {
    showCommand(signal);
    if (anew) { await view("before"); await view("after"); } else { await view("after"); await view("before"); }
    const map = $("over").value;
    if (map) {
      const blob = await (await get(`map/${map}`, place())).blob();
      signal.throwIfAborted();
      await put($("map"), blob);
    }
    $("map").hidden = !map;
    busy("");
    await new Promise(done => setTimeout(done, isPart() ? 0 : 1500));
    signal.throwIfAborted();
    const facts = await (await get("facts", asked())).json();
    $("facts").textContent = describe(facts);
  } catch (error) {
    if (mine === loading) busy("");
    if (error.name !== "AbortError") { if (anew && !$("before").src) $("pictures").hidden = true; $("map").hidden = true; }
    failed(error);
  }
}

function describe(facts) {
  const shot = [facts.camera, `${facts.width} × ${facts.height}`, facts.iso && `ISO ${facts.iso}`,
    facts.shutter && (facts.shutter < 0.4 ? `1/${Math.round(1 / facts.shutter)} s` : `${+facts.shutter.toPrecision(3)} s`),
    facts.aperture && `f/${facts.aperture}`];
  const does = [`× ${+facts.ratio.toPrecision(4)}`, `T = ${facts.steps}`,
    `read noise ${facts.read.toPrecision(3)} DN (${facts.noise})`, facts.mended && `${facts.mended} sites mended`];
  return [...shot, ...does].filter(Boolean).join(" · ") + facts.notes.map(note => ` – ${note}`).join("");
}

async function showCommand(signal) {
  const words = asked();
  words.set("format", $("format").value);
  const answer = await ask(`/api/photographs/${state.photo}/command?${words}`, { signal }).catch(() => null);
  $("command").textContent = answer ? (await answer.json()).command : "";
}

function toPart(x, y) {
  Object.assign(state, { x: Math.min(1, Math.max(0, x)), y: Math.min(1, Math.max(0, y)) });
  remember(true);
  show(true);
}

function toWhole() {
  if (!isPart()) return;
  Object.assign(state, { x: null, y: null });
  remember(true);
  show(true);
}

function move(across, down) {  // in pixels of the page
  const ratio = Math.min(devicePixelRatio || 1, 2), half = [0, 0];
  half[0] = Math.min(0.5, $("stage").clientWidth * ratio / size.width / 2);
  half[1] = Math.min(0.5, $("stage").clientHeight * ratio / size.height / 2);
  const within = (value, edge) => Math.min(1 - edge, Math.max(edge, value));
  state.x = within(within(state.x, half[0]) + across * ratio / size.width, half[0]);
  state.y = within(within(state.y, half[1]) + down * ratio / size.height, half[1]);
  remember(false);
  show();
}

// ---- the slider, and the pointer on the photograph

function slide(value) {
  $("at").value = value;
  $("pictures").style.setProperty("--at", `${$("at").value}%`);
}

function pointer() {
  const stage = $("stage"), pictures = $("pictures");
  let held = null;
  stage.onpointerdown = event => {
    if (pictures.hidden || event.button || event.target.closest("#development")) return;
    held = { sliding: $("line").contains(event.target), x: event.clientX, y: event.clientY, far: false };
    stage.setPointerCapture(event.pointerId);
  };
  stage.onpointermove = event => {
    if (!held) return;
    const box = pictures.getBoundingClientRect(), [dx, dy] = [event.clientX - held.x, event.clientY - held.y];
    if (held.sliding) slide(100 * (event.clientX - box.left) / box.width);
    held.far ||= Math.hypot(dx, dy) > 5;
    if (!held.sliding && held.far && isPart()) pictures.style.transform = `translate(${dx}px, ${dy}px)`;
  };
  stage.onpointerup = event => {
    const was = held, box = pictures.getBoundingClientRect();
    held = null;
    if (!was) return;
    if (was.sliding) remember(false);
    else if (isPart() && was.far) move(was.x - event.clientX, was.y - event.clientY);
    else if (!isPart() && !was.far && pictures.contains(event.target.closest("#pictures") ?? document.elementFromPoint(event.clientX, event.clientY)))
      toPart((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  };
  stage.onpointercancel = () => { held = null; pictures.style.transform = ""; };
}

// ---- the exposure develops

async function develop() {
  loading?.abort();
  const mine = loading = new AbortController(), count = Number($("count").value);
  developed = [];
  $("development").hidden = false;
  $("map").hidden = true;
  label("collected so far", "seen in it");
  Object.assign($("time"), { max: count, value: 0 });
  try {
    for (let number = 0; number <= count; number++) {
      busy(`simulating exposure ${number} of ${count}`);
      const words = place();
      words.set("count", count);
      words.set("number", number);
      const answer = await ask(`/api/photographs/${state.photo}/step?${words}`, { signal: mine.signal });
      const step = await answer.json();
      mine.signal.throwIfAborted();
      developed.push(step);
      $("time").value = number;
      await showStep();
    }
    busy("");
  } catch (error) { if (mine === loading) busy(""); failed(error); }
}

async function showStep() {
  const step = developed?.[Math.min(Number($("time").value), developed.length - 1)];
  if (!step) return;
  $("time").value = developed.indexOf(step);
  $("exposed").textContent = `× ${step.exposure < 10 ? step.exposure.toFixed(1) : Math.round(step.exposure)}`;
  $("time").setAttribute("aria-valuetext", `exposure ${$("exposed").textContent} of the capture`);
  const bytes = text => new Blob([Uint8Array.from(atob(text), letter => letter.charCodeAt(0))], { type: "image/jpeg" });
  await Promise.all([put($("before"), bytes(step.state)), put($("after"), bytes(step.estimate))]);
}

function label(before, after) {
  for (const [id, text] of [["tag-before", before], ["tag-after", after], ["at-before", before], ["at-after", after]]) $(id).textContent = text;
}

function closeDevelopment() {
  clearInterval(playing);
  playing = 0;
  developed = null;
  $("development").hidden = true;
  label("capture", "result");
}

function play() {
  clearInterval(playing);
  $("time").value = 0;
  showStep();
  playing = setInterval(() => {
    if (!developed || Number($("time").value) >= developed.length - 1) { clearInterval(playing); return; }
    $("time").value = Number($("time").value) + 1;
    showStep();
  }, 700);
}

// ---- the queue

async function save(keys) {
  try {
    const body = JSON.stringify({ photographs: keys, format: $("format").value, overwrite: $("overwrite").checked, asked: Object.fromEntries(asked()) });
    showOrders(await ask("/api/orders", { method: "POST", body, headers: { "content-type": "application/json" } }));
  } catch (error) { failed(error); }
}

function time(seconds) {
  return seconds === null || seconds === undefined ? "" : seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;
}

async function showOrders(answer) {
  clearTimeout(polling);
  const { orders } = await answer.json();
  const running = orders.find(one => one.state === "running");
  let left = running?.left ?? null;
  $("orders").replaceChildren(...orders.map(one => {
    const item = document.createElement("li"), name = document.createElement("span"), said = document.createElement("span");
    item.className = one.state;
    name.className = "name";
    said.className = "said";
    name.textContent = one.result;
    name.title = one.result;
    item.append(name);
    if (one.state === "waiting" && left !== null && one.left) left += one.left;
    const texts = {
      waiting: `waiting${left !== null && one.left ? `, ready in ${time(left)}` : ""}`,
      running: one.left === null ? "begun" : `${Math.round(100 * one.share)} %, ${time(one.left)} left`,
      done: `done in ${one.seconds} s`,
      kept: "kept: it is there already",
      failed: one.message,
      cancelled: "cancelled",
    };
    said.textContent = texts[one.state];
    if (one.state === "waiting" || one.state === "running") {
      const cancel = document.createElement("button");
      Object.assign(cancel, { type: "button", textContent: "Cancel", onclick: () => order(`/${one.number}`) });
      cancel.setAttribute("aria-label", `cancel ${one.result}`);
      item.append(cancel);
    } else if (one.state === "done" || one.state === "kept") {
      const link = document.createElement("a");
      Object.assign(link, { href: `/api/orders/${one.number}/file`, download: one.result, textContent: "Download" });
      item.append(link);
    }
    if (one.state === "running") {
      const bar = document.createElement("progress");
      bar.setAttribute("aria-label", `progress of ${one.result}`);
      Object.assign(bar, { max: 1, value: one.share });
      item.append(bar);
    }
    item.append(said);
    return item;
  }));
  $("forget").hidden = !orders.some(one => !["waiting", "running"].includes(one.state));
  if (orders.some(one => ["waiting", "running"].includes(one.state))) polling = setTimeout(loadOrders, 700);
}

const order = async path => { try { await showOrders(await ask(`/api/orders${path}`, { method: "DELETE" })); } catch (error) { failed(error); } };
const loadOrders = async () => { try { await showOrders(await ask("/api/orders")); } catch (error) { polling = setTimeout(loadOrders, 3000); } };

// ---- the controls

function showValues() {
  for (const output of document.querySelectorAll(".control output")) output.textContent = (+$(output.htmlFor.value).value).toFixed(output.htmlFor.value === "ev" ? 1 : 2);
  slide($("at").value);
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const onStage = event.target === $("stage");
  const step = [0.25 * $("stage").clientWidth, 0.25 * $("stage").clientHeight];
  const moves = { ArrowLeft: [-step[0], 0], ArrowRight: [step[0], 0], ArrowUp: [0, -step[1]], ArrowDown: [0, step[1]] };
  const zoom = () => isPart() ? toWhole() : state.photo && toPart(0.5, 0.5);
  const actions = {
    j: () => neighbour(1), k: () => neighbour(-1), z: zoom, Escape: toWhole, s: () => $("save").click(), d: () => $("develop").click(),
    b: () => { slide({ 0: 100, 100: 50 }[$("at").value] ?? 0); remember(false); }, "?": () => $("help").showModal(),
  };
  if (onStage && event.key === "Enter") zoom();
  else if (onStage && isPart() && moves[event.key]) move(...moves[event.key]);
  else if (actions[event.key]) actions[event.key]();
  else return;
  event.preventDefault();
}

let changed = 0;
function begin() {
  readAddress();
  pointer();
  $("controls").oninput = event => {
    showValues();
    clearTimeout(changed);
    const typed = event.target.matches("input:not([type=range])");
    changed = setTimeout(() => { remember(false); show(); }, typed ? 600 : 250);
  };
  $("controls").onsubmit = event => event.preventDefault();
  $("format").onchange = () => { remember(false); if (state.photo) showCommand(); };
  $("reset").onclick = () => { for (const name of [...CONTROLS, "over"]) $(name).value = USUAL[name]; showValues(); remember(true); show(); };
  $("at").oninput = () => slide($("at").value);
  $("at").onchange = () => remember(false);
  $("zoom").onclick = () => isPart() ? toWhole() : toPart(0.5, 0.5);
  $("develop").onclick = develop;
  $("count").onchange = develop;
  $("time").oninput = () => { clearInterval(playing); showStep(); };
  $("play").onclick = play;
  $("close").onclick = () => show();
  $("save").onclick = () => save([state.photo]);
  $("save-all").onclick = () => save(album.map(one => one.key));
  $("forget").onclick = () => order("");
  $("files").onchange = () => { upload([...$("files").files]); $("files").value = ""; };
  $("message").lastElementChild.onclick = () => say("");
  $("help-open").onclick = () => $("help").showModal();
  onkeydown = keys;
  onpopstate = () => { readAddress(); show(true); };
  let resized = 0;
  onresize = () => { fit(); if (isPart()) { clearTimeout(resized); resized = setTimeout(show, 400); } };
  ondragover = event => { event.preventDefault(); $("stage").classList.add("over"); };
  ondragleave = event => { if (!event.relatedTarget) $("stage").classList.remove("over"); };
  ondrop = event => { event.preventDefault(); $("stage").classList.remove("over"); upload([...event.dataTransfer.files]); };
  loadAlbum().then(() => show(true), failed);
  loadOrders();
}

begin();

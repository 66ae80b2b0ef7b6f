"use strict";
const T = JSON.parse(document.getElementById("test").textContent);
const main = document.querySelector("main"), bar = document.querySelector("progress");
const KEY = "gsvexport-" + T.test;
const hash = (text) => { let h = 2166136261; for (const c of text) { h ^= c.codePointAt(0); h = Math.imul(h, 16777619); } return h >>> 0; };
function random(seed) { // mulberry32
  let a = seed;
  return () => { a = (a + 0x6D2B79F5) | 0; let t = Math.imul(a ^ (a >>> 15), 1 | a); t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t; return ((t ^ (t >>> 14)) >>> 0) / 4294967296; };
}
function shuffled(row, next) {
  const out = [...row];
  for (let i = out.length - 1; i > 0; i--) { const j = Math.floor(next() * (i + 1)); [out[i], out[j]] = [out[j], out[i]]; }
  return out;
}
const kept = { get() { try { return JSON.parse(localStorage.getItem(KEY)); } catch { return null; } },
  set(value) { try { localStorage.setItem(KEY, JSON.stringify(value)); } catch { /* a page from a file may keep nothing */ } } };
const asked = /^#rater=([A-Za-z0-9_.-]{1,40})$/.exec(location.hash);
let state = kept.get();
if (!state || (asked && state.rater !== asked[1])) {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  state = { rater: asked ? asked[1] : [...bytes].map((b) => b.toString(16).padStart(2, "0")).join(""), at: 0, began: 0, answers: {} };
}
const next = random(hash(T.seed + ":" + state.rater));
const screens = [{ kind: "hello" }];
for (const i of shuffled(T.mushra.keys(), next)) screens.push({ kind: "mushra", id: "m" + i, open: T.mushra[i].open, rated: shuffled(T.mushra[i].rated, next) });
for (const sound of shuffled(T.mos, next)) screens.push({ kind: "mos", id: "s" + sound, sound });
for (const i of shuffled(T.abx.keys(), next)) {
  const pair = shuffled(T.abx[i], next), x = next() < 0.5 ? "a" : "b";
  screens.push({ kind: "abx", id: "x" + i, trial: i, a: pair[0], b: pair[1], x });
}
screens.push({ kind: "end" });

let player = null, playing = null;
function stop() { if (player) { player.pause(); player = null; } if (playing) { playing.classList.remove("on"); playing = null; } }
function play(sound, button) {
  const again = playing === button;
  stop();
  if (again) return;
  player = new Audio(T.sounds[T.stimuli[sound]]);
  playing = button; button.classList.add("on");
  player.onended = () => { button.dataset.heard = "1"; stop(); check(); };
  const mine = player;
  player.play().catch((error) => { if (mine !== player) return; stop(); note("The sound cannot be played here: " + error.message); });
}
let keys = {}, check = () => {};
function el(name, props = {}, ...children) {
  const node = Object.assign(document.createElement(name), props);
  node.append(...children);
  return node;
}
function note(text) { main.querySelector(".note").textContent = text; }
function playButton(label, sound, key) {
  const button = el("button", { type: "button", className: "play", title: key ? "key " + key.toUpperCase() : "" }, label);
  button.onclick = () => play(sound, button);
  if (key) keys[key] = () => button.click();
  return button;
}
function answer(id, value) { state.answers[id] = value; kept.set(state); }
function show() {
  stop(); keys = {}; main.replaceChildren();
  const screen = screens[state.at];
  bar.max = screens.length - 1; bar.value = state.at;
  const go = el("button", { type: "button", className: "next", disabled: true }, "Next");
  go.onclick = () => { state.at += 1; kept.set(state); show(); window.scrollTo(0, 0); };
  keys.Enter = () => { if (!go.disabled) go.click(); };
  const title = el("h1", { tabIndex: -1 });
  main.append(title);
  let buttons = [];
  const allHeard = () => buttons.every((one) => one.dataset.heard);
  ({
    hello() {
      title.textContent = "A listening test";
      main.append(el("p", {}, "You will hear short recordings of a voice and say how good they sound. There is nothing to know and nothing to get right. Use headphones in a quiet room, and set the volume once, now:"),
        el("p", {}, playButton("Play a recording", T.mushra.length ? T.mushra[0].open : T.mos[0] ?? T.abx[0][0], " ")),
        el("p", {}, `There are ${screens.length - 2} questions. You may pause; what you have answered is kept in this browser where it allows that. At the end you get a small file to send back.`),
        el("p", { className: "soft" }, "Keys: space, R, A, B, X and the digits play or answer, arrows move a slider, Enter goes on."));
      go.disabled = false; go.textContent = "Begin";
      const begin = go.onclick; go.onclick = () => { state.began = state.began || Date.now(); begin(); };
    },
    mushra() {
      title.textContent = "Compare with the reference";
      main.append(el("p", {}, "Rate how close each recording comes to the reference, from 0 (bad) to 100 (no difference). One of them is the reference itself: it gets 100."));
      const given = state.answers[screen.id] || {}, ref = playButton("Reference", screen.open, "r");
      main.append(el("p", {}, ref, " key R"));
      buttons = [ref];
      const touched = new Set(Object.keys(given).map(Number));
      for (const [place, sound] of screen.rated.entries()) {
        const button = playButton(`Play ${place + 1}`, sound, String(place + 1));
        const out = el("output", {}, given[sound] ?? "–");
        const slider = el("input", { type: "range", min: 0, max: 100, step: 1, value: given[sound] ?? 50 });
        slider.setAttribute("aria-label", `Rating of recording ${place + 1}`);
        slider.oninput = () => { out.textContent = slider.value; given[sound] = Number(slider.value); touched.add(sound); answer(screen.id, given); check(); };
        slider.onpointerup = slider.oninput; // to leave it where it stands is an answer, too
        keys[String(place + 1)] = () => { button.click(); slider.focus(); };
        buttons.push(button);
        main.append(el("div", { className: "row" }, button, slider, out));
      }
      main.append(el("p", { className: "scale" }, ...["bad", "poor", "fair", "good", "excellent"].map((word) => el("span", {}, word))));
      check = () => { go.disabled = !(allHeard() && touched.size === screen.rated.length); if (!go.disabled) note(""); };
      note_(`Hear the reference and all ${screen.rated.length}, and rate each.`);
    },
    mos() {
      title.textContent = "How good is this speech?";
      const button = playButton("Play", screen.sound, " ");
      buttons = [button];
      main.append(el("p", {}, button, " space"));
      const words = ["Bad", "Poor", "Fair", "Good", "Excellent"], group = el("fieldset", {}, el("legend", {}, "Its quality is"));
      for (const score of [5, 4, 3, 2, 1]) {
        const input = el("input", { type: "radio", name: "mos", value: score, checked: state.answers[screen.id] === score });
        input.onchange = () => { answer(screen.id, score); check(); };
        group.append(el("label", {}, input, ` ${score}  ${words[score - 1]}`));
        keys[String(score)] = () => { input.checked = true; input.onchange(); };
      }
      main.append(group);
      check = () => { go.disabled = !(allHeard() && state.answers[screen.id]); };
      note_("Hear it to its end, then choose.");
    },
    abx() {
      title.textContent = "Which one is X?";
      buttons = [playButton("A", screen.a, "a"), playButton("B", screen.b, "b"), playButton("X", screen[screen.x], "x")];
      main.append(el("p", {}, "X is either A or B. If you cannot tell, guess."), el("p", { className: "abx" }, ...buttons));
      const group = el("fieldset", {}, el("legend", {}, "X is"));
      for (const [key, side] of [["1", "a"], ["2", "b"]]) {
        const input = el("input", { type: "radio", name: "abx", checked: (state.answers[screen.id] || {}).side === side });
        input.onchange = () => { answer(screen.id, { side }); check(); };
        group.append(el("label", {}, input, ` ${side.toUpperCase()}  (key ${key})`));
        keys[key] = () => { input.checked = true; input.onchange(); };
      }
      main.append(group);
      check = () => { go.disabled = !(allHeard() && state.answers[screen.id]); };
      note_("Hear all three, then choose.");
    },
    end() {
      title.textContent = "Thank you";
      const text = result();
      const link = el("a", { className: "next", download: `listening-${T.test.slice(0, 8)}-${state.rater}.json`, href: URL.createObjectURL(new Blob([text], { type: "application/json" })) }, "Download your answers");
      const area = el("textarea", { readOnly: true, rows: 6, value: text });
      area.setAttribute("aria-label", "Your answers as text");
      const copy = el("button", { type: "button" }, "Copy them");
      copy.onclick = async () => {
        try { await navigator.clipboard.writeText(text); } catch { area.select(); document.execCommand("copy"); }
        note("Copied.");
      };
      main.append(el("p", {}, "Send this small file to whoever gave you the page, or copy its text into a message. It holds your answers and a random number, and nothing about you."), el("p", {}, link), el("p", {}, copy), area);
      go.hidden = true; check = () => {};
      note_("");
    },
  })[screen.kind]();
  function note_(text) { main.append(el("p", { className: "note", role: "status" }, text)); }
  if (!main.querySelector(".note")) note_("");
  if (!go.hidden) {
    const back = el("button", { type: "button", disabled: state.at === 0 }, "Back");
    back.onclick = () => { state.at -= 1; kept.set(state); show(); };
    main.append(el("p", { className: "move" }, back, go));
  }
  check(); title.focus();
}
function result() {
  const a = state.answers, of = (kind) => screens.filter((one) => one.kind === kind);
  return JSON.stringify({
    kind: "gsvexport-listening-results", schema: 1, test: T.test, rater: state.rater,
    seconds: Math.max(0, Math.round((Date.now() - state.began) / 1000)),
    mushra: of("mushra").map((one) => one.rated.map((sound) => [sound, a[one.id][sound]])),
    mos: of("mos").map((one) => [one.sound, a[one.id]]),
    abx: of("abx").map((one) => ({ trial: one.trial, x: one.x, answer: a[one.id].side })),
  });
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "TEXTAREA") return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if ((key === "Enter" || key === " ") && ["BUTTON", "A"].includes(event.target.tagName)) return;
  if (keys[key]) { event.preventDefault(); keys[key](); }
});
window.addEventListener("beforeunload", (event) => { if (state.at && state.at < screens.length - 1 && !kept.get()) event.preventDefault(); });
show();

"use strict";
// What the page asks the server for, how it plays sound that is still being made, and what it measures meanwhile.
const at = (id) => document.getElementById(id);
const seconds = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(2)} s`);
let voices = [], key = sessionStorage.getItem("key") || "", sound = null, asked = null, played = "";

async function ask(path, options = {}) {
  const headers = { ...(key ? { Authorization: `Bearer ${key}` } : {}), ...options.headers };
  const answer = await fetch(path, { ...options, headers });
  at("gate").hidden = answer.status !== 401;
  if (answer.ok) return answer;
  let what = `the server answered ${answer.status}`;
  try { what = (await answer.json()).error.message; } catch { /* no JSON: a proxy's own page */ }
  if (answer.status === 429) what += `; try again in ${answer.headers.get("Retry-After")} s`;
  throw new Error(what);
}

function say(text, bad = false) {
  at("said").textContent = text;
  at("said").className = bad ? "fail" : "";
}

// --- voices

async function look() {
  try {
    const found = (await (await ask("/voices")).json()).voices;
    if (JSON.stringify(found.map((one) => [one.id, one.digest])) === JSON.stringify(voices.map((one) => [one.id, one.digest]))) return;
    const chosen = at("voice").value;
    voices = found;
    at("voice").replaceChildren(...voices.map((one) => new Option(`${one.id} (${one.language}, ${one.target})`, one.id)));
    if (voices.some((one) => one.id === chosen)) at("voice").value = chosen;
    at("voice").disabled = !voices.length;
    if (!sound) at("speak").disabled = !voices.length;
    choose();
  } catch (error) {
    if (!voices.length) say(error.message, true);
  }
}

function choose() {
  const one = voices.find((voice) => voice.id === at("voice").value);
  at("about").hidden = !one;
  if (!one) return;
  at("language").replaceChildren(new Option(`the voice's (${one.language})`, ""), ...["auto", ...one.languages].map((name) => new Option(name, name)));
  const facts = {
    "Made for": one.target, Model: one.version, Sound: `${one.sample_rate} Hz`, Size: `${(one.bytes / 1e6).toFixed(1)} MB`,
    Verified: one.verified, Signature: one.signed || "none", Digest: one.digest.slice(0, 16),
  };
  at("name").textContent = one.id;
  at("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [cell("dt", name), cell("dd", value)]));
  at("report").open = false;
}

function cell(kind, text, name = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  made.className = name;
  return made;
}

function figure(value) {
  return typeof value === "number" ? Number(value.toPrecision(4)).toString() : "–";
}

function worst(check) { // the number that the limit is for: the value, or the worse bound of its interval
  return (check.direction === "max" ? check.high : check.low) ?? check.value;
}

async function report() {
  if (!at("report").open) return;
  const id = at("voice").value;
  at("verdict").textContent = "";
  at("checks").replaceChildren();
  try {
    const found = await (await ask(`/voices/${encodeURIComponent(id)}/report`)).json();
    if (id !== at("voice").value) return;
    const count = (status) => found.checks.filter((one) => one.status === status).length;
    at("verdict").textContent = `${found.passed ? "Passed" : "Not passed"}: ${count("pass")} checks passed, ${count("fail")} failed, ${count("not_run")} did not run.`;
    at("verdict").className = found.passed ? "pass" : "fail";
    const head = document.createElement("tr");
    head.append(...["Check", "", "Worst", "Limit", "n"].map((name) => cell("th", name)));
    const order = ["fail", "not_run", "pass", "info"];
    const rows = [...found.checks].sort((a, b) => order.indexOf(a.status) - order.indexOf(b.status));
    at("checks").replaceChildren(head, ...rows.map((one) => {
      const row = document.createElement("tr");
      row.append(cell("td", `${one.stage} ${one.metric}`), cell("td", one.status.replace("_", " "), one.status), cell("td", figure(worst(one))), cell("td", `${one.limit === null ? "" : one.direction === "max" ? "≤ " : "≥ "}${figure(one.limit)}`), cell("td", one.n));
      return row;
    }));
  } catch (error) {
    at("verdict").textContent = error.message;
    at("verdict").className = "fail";
  }
}

// --- sound

class Sound {
  constructor(rate) {
    this.rate = rate;
    this.pieces = [];
    this.count = this.gaps = 0;
    this.odd = null; // half of a sample
    this.context = new (window.AudioContext || window.webkitAudioContext)();
    this.until = 0; // when what is planned so far has been heard, by the context's clock
  }

  add(bytes) {
    if (this.odd !== null) bytes = Uint8Array.from([this.odd, ...bytes]);
    this.odd = bytes.length % 2 ? bytes[bytes.length - 1] : null;
    const length = bytes.length >> 1;
    if (!length) return;
    const view = new DataView(bytes.buffer, bytes.byteOffset, 2 * length);
    const samples = new Float32Array(length);
    for (let index = 0; index < length; index++) samples[index] = view.getInt16(2 * index, true) / 32768;
    this.pieces.push(samples);
    this.count += length;
    const buffer = this.context.createBuffer(1, length, this.rate);
    buffer.copyToChannel(samples, 0);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    const now = this.context.currentTime;
    if (this.until < now) {
      if (this.until) this.gaps += 1; // the listener waits for the next piece
      this.until = now + 0.05;
    }
    source.start(this.until);
    this.until += buffer.duration;
  }

  get seconds() { return this.count / this.rate; }

  whole() {
    const all = new Float32Array(this.count);
    let place = 0;
    for (const piece of this.pieces) { all.set(piece, place); place += piece.length; }
    return all;
  }

  wav() {
    const samples = this.whole(), data = new DataView(new ArrayBuffer(44 + 2 * samples.length));
    const text = (place, word) => [...word].forEach((letter, index) => data.setUint8(place + index, letter.charCodeAt(0)));
    text(0, "RIFF"); data.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt "); data.setUint32(16, 16, true);
    data.setUint16(20, 1, true); data.setUint16(22, 1, true); data.setUint32(24, this.rate, true);
    data.setUint32(28, 2 * this.rate, true); data.setUint16(32, 2, true); data.setUint16(34, 16, true);
    text(36, "data"); data.setUint32(40, 2 * samples.length, true);
    samples.forEach((value, index) => data.setInt16(44 + 2 * index, Math.round(value * 32768), true));
    return new Blob([data.buffer], { type: "audio/wav" });
  }

  end() { if (this.context.state !== "closed") this.context.close(); }
}

function draw() {
  const canvas = at("wave"), scale = window.devicePixelRatio || 1;
  const width = canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
  const height = canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
  if (!sound || !sound.count) return;
  const pen = canvas.getContext("2d"), all = sound.whole(), each = all.length / width;
  pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--own");
  for (let x = 0; x < width; x++) {
    let low = 0, high = 0;
    for (let index = Math.floor(x * each); index < Math.min(all.length, Math.ceil((x + 1) * each)); index++) {
      low = Math.min(low, all[index]);
      high = Math.max(high, all[index]);
    }
    pen.fillRect(x, (1 - high) * height / 2, 1, Math.max(scale, (high - low) * height / 2));
  }
}

function tell(first, total) {
  at("first").textContent = first === null ? "…" : seconds(first);
  at("length").textContent = seconds(sound.seconds);
  at("rtf").textContent = sound.count ? (total / sound.seconds).toFixed(2) : "…";
  at("gaps").textContent = sound.gaps;
}

async function speak(event) {
  event.preventDefault();
  if (asked || !at("text").value.trim()) return;
  if (sound) sound.end();
  sound = new Sound(24000); // here, in answer to a finger: phones play nothing else
  sound.context.resume();
  asked = new AbortController();
  at("speak").disabled = true;
  at("stop").disabled = false;
  at("heard").hidden = false;
  at("again").hidden = at("save").hidden = true;
  say("");
  const began = performance.now(), total = () => (performance.now() - began) / 1000;
  let first = null;
  tell(first, 0);
  draw();
  const body = {
    model: "gsvexport", voice: at("voice").value, input: at("text").value, response_format: "pcm", stream: true,
    speed: Number(at("speed").value) || 1, seed: Number(at("seed").value) || 0,
    ...(at("language").value ? { language: at("language").value } : {}),
  };
  try {
    const answer = await ask("/v1/audio/speech", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: asked.signal,
    });
    const reader = answer.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (first === null && value.length) first = total();
      sound.add(value);
      tell(first, total());
      draw();
    }
    tell(first, total());
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
  }
  if (sound.count) {
    URL.revokeObjectURL(played);
    played = at("again").src = at("save").href = URL.createObjectURL(sound.wav());
    at("again").hidden = at("save").hidden = false;
  }
  asked = null;
  at("speak").disabled = !voices.length;
  const rest = sound, left = Math.max(0, rest.until - rest.context.currentTime);
  setTimeout(() => { if (rest === sound && !asked) at("stop").disabled = true; }, 1000 * left);
}

function stop() {
  if (asked) asked.abort();
  if (sound) sound.end();
  at("stop").disabled = true;
}

at("ask").addEventListener("submit", speak);
at("stop").addEventListener("click", stop);
at("voice").addEventListener("change", choose);
at("report").addEventListener("toggle", report);
at("text").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) speak(event); });
at("gate").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("key").value.trim();
  sessionStorage.setItem("key", key);
  say("");
  look();
});
window.addEventListener("resize", draw);
look();
setInterval(look, 10000);

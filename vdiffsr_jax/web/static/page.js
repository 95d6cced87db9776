"use strict";
const $ = (id) => document.getElementById(id);
const done = [];

async function start() {
  const about = await (await fetch("/api/about")).json();
  $("about").textContent = `Photos up to ${about.megapixels} megapixels and ${about.megabytes} MB`;
  for (const model of about.models) $("model").add(new Option(model.name));
  $("model").onchange = () => choose(about.models[$("model").selectedIndex]);
  choose(about.models[0]);
  for (const name of about.formats) $("format").add(new Option(name));
}

function choose(model) {
  $("steps").replaceChildren(...model.steps.map((n) => new Option(n)));
  $("ends").hidden = model.fidelity === null;
  $("fidelity").value = model.fidelity;
}

function say(text) { $("error").textContent = text ? `${$("error").textContent}${text}\n` : ""; }

async function upload(file) {
  const query = new URLSearchParams({ name: file.name });
  for (const id of ["model", "steps", "seed", "color", "scale", "format"]) query.set(id, $(id).value);
  if (!$("ends").hidden) query.set("fidelity", $("fidelity").value);
  let answer;
  try {
    answer = await fetch(`/api/photos?${query}`, {
      method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file });
  } catch { return say(`${file.name}: the connection broke off; is the file too large, or the server gone?`); }
  const body = await answer.json();
  if (!answer.ok) return say(body.error);
  const row = document.createElement("li");
  row.innerHTML = '<span class="name"></span><progress max="1" value="0"></progress><span class="state"></span>';
  row.querySelector(".name").textContent = file.name;
  $("photos").append(row);
  follow(body.id, row);
}

async function follow(id, row) {
  const [bar, state] = [row.querySelector("progress"), row.querySelector(".state")];
  for (;;) {
    const answer = await fetch(`/api/photos/${id}`);
    const now = await answer.json();
    if (!answer.ok) { state.textContent = now.error; return; }
    bar.value = now.tiles ? now.done_tiles / now.tiles : 0;
    state.textContent = now.state === "waiting" ? `waiting, ${now.before_it} before it`
      : now.state === "running" ? `${now.done_tiles} of ${now.tiles || "?"} tiles` : now.notes.join("; ");
    if (now.state === "failed") { row.className = "failed"; bar.remove(); return; }
    if (now.state === "done") {
      row.className = "done";
      bar.remove();
      const link = Object.assign(document.createElement("a"), {
        href: `/api/photos/${id}/result`, download: now.file, textContent: "Download" });
      const look = Object.assign(document.createElement("button"), { textContent: "Compare", onclick: () => compare(id) });
      row.append(link, look);
      done.push(id);
      if (done.length > 1) { $("zip").hidden = false; $("zip").href = `/api/zip?ids=${done.join(",")}`; }
      if ($("compare").hidden) compare(id);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

const view = { zoom: 1, x: 0, y: 0 };  // x, y: the corner of what is seen, as parts of the picture

function compare(id) {
  $("compare").hidden = false;
  $("after").onload = () => { $("view").style.aspectRatio = `${$("after").naturalWidth} / ${$("after").naturalHeight}`; draw(); };
  for (const which of ["before", "after"]) $(which).src = `/api/photos/${id}/${which}.png`;
  Object.assign(view, { zoom: 1, x: 0, y: 0 });
  draw();
}

function draw() {
  const box = $("view").getBoundingClientRect();
  const room = 1 - 1 / view.zoom;
  view.x = Math.min(Math.max(view.x, 0), room);
  view.y = Math.min(Math.max(view.y, 0), room);
  const split = $("slider").value / 100;
  const move = `translate(${-view.x * view.zoom * box.width}px, ${-view.y * view.zoom * box.height}px) scale(${view.zoom})`;
  for (const which of ["before", "after"]) $(which).style.transform = move;
  const edge = view.x + split / view.zoom;  // of the picture, where the handle stands
  $("before").style.clipPath = `inset(0 ${(1 - edge) * 100}% 0 0)`;
  $("handle").style.left = `calc(${split * 100}% - 1px)`;
  $("zoom").value = view.zoom;
}

function zoomAt(zoom, u, v) {
  const to = Math.min(Math.max(zoom, 1), 16);
  view.x += u / view.zoom - u / to;
  view.y += v / view.zoom - v / to;
  view.zoom = to;
  draw();
}

$("slider").oninput = draw;
$("zoom").oninput = () => zoomAt(Number($("zoom").value), 0.5, 0.5);
$("view").addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = $("view").getBoundingClientRect();
  zoomAt(view.zoom * Math.exp(-event.deltaY / 300), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
}, { passive: false });
$("view").onpointermove = (event) => {
  if (!event.buttons) return;
  const box = $("view").getBoundingClientRect();
  view.x -= event.movementX / box.width / view.zoom;
  view.y -= event.movementY / box.height / view.zoom;
  draw();
};
window.onresize = draw;
$("files").onchange = () => { say(""); for (const file of $("files").files) upload(file); };
for (const name of ["dragover", "dragleave", "drop"]) $("drop").addEventListener(name, (event) => {
  event.preventDefault();
  $("drop").classList.toggle("over", name === "dragover");
  if (name === "drop") { say(""); for (const file of event.dataTransfer.files) upload(file); }
});
$("settings").onsubmit = (event) => event.preventDefault();
start();

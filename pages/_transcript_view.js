// Draws transcripts side by side, and ties their words to the recording's audio element.
// Every text is set as text, never as HTML.

const views = new WeakMap();

export default function ({ data, parentElement }) {
  const before = views.get(parentElement);
  // Redrawn only when something changed: the place one scrolled to stays.
  if (before && before.stamp === data.stamp) return;
  if (before) before.close();
  views.set(parentElement, draw(data, parentElement.querySelector(".view")));
  return () => {
    views.get(parentElement)?.close();
    views.delete(parentElement);
  };
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  const minutes = Math.floor(whole / 60);
  return `${minutes}:${String(whole % 60).padStart(2, "0")}`;
}

const SAID = { sub: "another word than in the first column", del: "left out", ins: "added" };

function draw(data, root) {
  root.replaceChildren();
  const audio = () => document.querySelector(data.audio);
  const starts = [];
  const slots = [];
  const disputes = [];

  function play(seconds) {
    const player = audio();
    if (!player) return;
    player.currentTime = Math.max(0, seconds - 0.1);
    player.play();
  }

  const wave = drawWave(data, (seconds) => {
    const player = audio();
    if (player) player.currentTime = seconds;
  });
  root.append(wave.element);

  const bar = element("div", "bar");
  const earlier = element("button", "", "‹ Previous");
  const later = element("button", "", "Next ›");
  const count = element("span", "count");
  const label = element("label", "only");
  const box = element("input");
  box.type = "checkbox";
  label.append(box, "Only phrases in dispute");
  bar.append(count, earlier, later, label, element("span", "hint", "Click a word to hear it."));
  root.append(bar);
  const legend = element("div", "legend");
  for (const [kind, what] of Object.entries(SAID)) {
    const sample = element({ del: "del", ins: "ins" }[kind] || "span", `word ${kind} disputed`, "word");
    const item = element("span");
    item.append(sample, ` ${what}`);
    legend.append(item);
  }
  root.append(legend);

  const sheet = element("div", "sheet");
  sheet.tabIndex = 0;
  sheet.setAttribute("role", "table");
  sheet.setAttribute("aria-label", "Transcripts side by side");
  sheet.style.setProperty("--columns", data.columns.length);

  const head = element("div", "line head");
  head.setAttribute("role", "row");
  const corner = element("div", "cell when", "Time");
  corner.setAttribute("role", "columnheader");
  head.append(corner);
  for (const column of data.columns) {
    const cell = element("div", "cell");
    cell.setAttribute("role", "columnheader");
    cell.append(element("strong", "", column.name));
    for (const fact of column.facts) cell.append(element("div", "fact", fact));
    for (const warning of column.warnings) cell.append(element("div", "warning", `⚠ ${warning}`));
    head.append(cell);
  }
  sheet.append(head);

  let number = 0;
  for (const { slots: phrase, left_out: leftOut } of data.phrases) {
    const line = element("div", "line");
    line.setAttribute("role", "row");
    if (leftOut) {
      line.classList.add("left-out");
      const note = element("div", "cell", `… ${leftOut} lines of added words are not shown …`);
      note.setAttribute("role", "cell");
      line.append(note);
      sheet.append(line);
      continue;
    }
    const first = phrase.find((slot) => slot.at !== null);
    const when = element("div", "cell when");
    when.setAttribute("role", "rowheader");
    if (first) {
      const button = element("button", "", clock(first.at));
      button.setAttribute("aria-label", `Play from ${clock(first.at)}`);
      button.onclick = () => play(first.at);
      when.append(button);
    }
    line.append(when);
    const cells = data.columns.map((column) => {
      const cell = element("div", "cell words");
      cell.setAttribute("role", "cell");
      cell.dataset.name = column.name;
      line.append(cell);
      return cell;
    });
    for (const slot of phrase) {
      const here = [];
      slot.words.forEach((word, column) => {
        if (!word) return;
        const [text, kind] = word;
        const tag = { del: "del", ins: "ins" }[kind] || "span";
        const span = element(tag, `word ${kind || "same"}${slot.disputed ? " disputed" : ""}`, text);
        if (SAID[kind]) span.title = SAID[kind];
        span.dataset.slot = number;
        cells[column].append(span, " ");
        here.push(span);
      });
      slots.push(here);
      starts.push(slot.at);
      if (slot.disputed) {
        disputes.push(number);
        line.classList.add("open");
      }
      number += 1;
    }
    sheet.append(line);
  }
  root.append(sheet);
  const total = data.disputed;
  count.textContent = total === 1 ? "1 place in dispute" : `${total} places in dispute`;
  wave.mark(disputes.map((slot) => starts[slot]).filter((at) => at !== null));
  earlier.disabled = later.disabled = !disputes.length;

  box.onchange = () => sheet.classList.toggle("disputes-only", box.checked);
  sheet.onclick = (event) => {
    const word = event.target.closest(".word");
    if (word && starts[word.dataset.slot] !== null) play(starts[word.dataset.slot]);
  };
  sheet.onmouseover = (event) => point(event.target.closest(".word"));
  sheet.onmouseleave = () => point(null);

  let pointed = [];
  function point(word) {
    for (const span of pointed) span.classList.remove("pointed");
    pointed = word ? slots[word.dataset.slot] : [];
    for (const span of pointed) span.classList.add("pointed");
  }

  let place = -1;
  function go(step) {
    place = (place + step + disputes.length) % disputes.length;
    const spans = slots[disputes[place]];
    point(spans[0]);
    spans[0].scrollIntoView({ block: "center", inline: "nearest", behavior: "instant" });
    count.textContent = `${place + 1} of ${disputes.length} shown`;
  }
  earlier.onclick = () => go(place < 0 ? 0 : -1);
  later.onclick = () => go(1);

  let said = [];
  function follow(event) {
    if (event.target !== audio()) return;
    const now = event.target.currentTime;
    wave.move(now);
    let current = -1;
    for (let slot = 0; slot < starts.length; slot += 1) {
      if (starts[slot] !== null && starts[slot] <= now) current = slot;
    }
    for (const span of said) span.classList.remove("now");
    said = current < 0 ? [] : slots[current];
    for (const span of said) span.classList.add("now");
  }
  // Media events do not bubble, but they are captured; the element may come after this one.
  const events = ["timeupdate", "seeked"];
  for (const name of events) document.addEventListener(name, follow, true);

  return {
    stamp: data.stamp,
    close() {
      for (const name of events) document.removeEventListener(name, follow, true);
    },
  };
}

function drawWave(data, seek) {
  const SVG = "http://www.w3.org/2000/svg";
  const box = element("div", "wave");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${data.outline.length} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const loudest = Math.max(0.02, ...data.outline);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute(
    "d",
    data.outline
      .map((peak, i) => {
        const half = Math.max(0.6, (44 * peak) / loudest);
        return `M${i + 0.5} ${48 - half}V${48 + half}`;
      })
      .join(""),
  );
  svg.append(path);
  const cursor = element("div", "cursor");
  const slider = element("input");
  slider.type = "range";
  slider.min = 0;
  slider.max = data.duration;
  slider.step = 0.05;
  slider.value = 0;
  slider.setAttribute("aria-label", "Place in the recording, in seconds");
  const marks = element("div", "marks");
  box.append(svg, marks, cursor, slider);
  const move = (seconds) => {
    slider.value = seconds;
    slider.setAttribute("aria-valuetext", clock(seconds));
    cursor.style.left = `${(100 * seconds) / data.duration}%`;
  };
  slider.oninput = () => {
    move(Number(slider.value));
    seek(Number(slider.value));
  };
  return {
    element: box,
    move,
    mark(times) {
      for (const at of times) {
        const mark = element("i");
        mark.style.left = `${(100 * at) / data.duration}%`;
        marks.append(mark);
      }
    },
  };
}

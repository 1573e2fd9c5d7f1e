// Draws transcripts side by side, and ties their words to the recording's audio element.
// Every text is set as text, never as HTML.

const views = new WeakMap();

export default function ({ data, parentElement }) {
  const current = views.get(parentElement);
  // Redrawn only when something changed, so that the scroll position stays.
  if (current?.stamp === data.stamp) return;
  current?.close();
  views.set(parentElement, draw(data, parentElement.querySelector(".view")));
  return () => {
    views.get(parentElement)?.close();
    views.delete(parentElement);
  };
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  const minutes = Math.floor(whole / 60);
  return `${minutes}:${String(whole % 60).padStart(2, "0")}`;
}

function percent(share) {
  return share < 0.01 ? "below 1 %" : `${Math.round(100 * share)} %`;
}

const TAGS = { del: "del", ins: "ins" };
const KINDS = { sub: "substituted", del: "deleted", ins: "inserted" };
const UNLIKELY = "improbable by fp32's estimate";
const COMPARED = "compared with the first column";

function draw(data, root) {
  root.replaceChildren();
  const audio = () => document.querySelector(data.audio);
  const starts = [];
  const slots = [];
  const differences = [];

  function play(seconds) {
    const player = audio();
    if (!player) return;
    player.currentTime = Math.max(0, seconds - 0.1);
    player.play();
  }

  const wave = drawWaveform(data, (seconds) => {
    const player = audio();
    if (player) player.currentTime = seconds;
  });
  root.append(wave.element);

  const bar = element("div", "bar");
  const previous = element("button", "", "‹ Previous");
  const next = element("button", "", "Next ›");
  const count = element("span", "count");
  const label = element("label", "only");
  const checkbox = element("input");
  checkbox.type = "checkbox";
  label.append(checkbox, "Only differences");
  bar.append(count, previous, next, label, element("span", "hint", "Click a word to play it."));
  root.append(bar);
  const legend = element("div", "legend");
  for (const [kind, meaning] of Object.entries(KINDS)) {
    const sample = element(TAGS[kind] || "span", `word ${kind} differs`, "word");
    const item = element("span");
    item.append(sample, ` ${meaning}`);
    legend.append(item);
  }
  const unlikely = element("span");
  unlikely.append(element("span", "word unlikely", "word"), ` ${UNLIKELY}`);
  legend.append(unlikely);
  legend.append(element("span", "", `Differences are ${COMPARED}; case, punctuation and how numbers are written do not count`));
  root.append(legend);

  const sheet = element("div", "sheet");
  sheet.tabIndex = 0;
  sheet.setAttribute("role", "table");
  sheet.setAttribute("aria-label", "Transcripts side by side");
  sheet.style.setProperty("--columns", data.columns.length);

  const head = element("div", "line head");
  head.setAttribute("role", "row");
  const corner = element("div", "cell time", "Time");
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
  for (const { slots: phrase, hidden } of data.phrases) {
    const line = element("div", "line");
    line.setAttribute("role", "row");
    if (hidden) {
      line.classList.add("hidden-lines");
      const note = element("div", "cell", `… ${hidden} lines of inserted words are not shown …`);
      note.setAttribute("role", "cell");
      line.append(note);
      sheet.append(line);
      continue;
    }
    const first = phrase.find((slot) => slot.at !== null);
    const time = element("div", "cell time");
    time.setAttribute("role", "rowheader");
    if (first) {
      const button = element("button", "", clock(first.at));
      button.setAttribute("aria-label", `Play from ${clock(first.at)}`);
      button.onclick = () => play(first.at);
      time.append(button);
    }
    line.append(time);
    const cells = data.columns.map((column) => {
      const cell = element("div", "cell words");
      cell.setAttribute("role", "cell");
      cell.dataset.name = column.name;
      line.append(cell);
      return cell;
    });
    for (const slot of phrase) {
      const spans = [];
      slot.words.forEach((word, column) => {
        if (!word) return;
        const [text, kind, chance] = word;
        const difference = slot.differs ? " differs" : "";
        const unlikely = chance === null ? "" : " unlikely";
        const classes = `word ${kind || "same"}${difference}${unlikely}`;
        const span = element(TAGS[kind] || "span", classes, text);
        const notes = KINDS[kind] ? [`${KINDS[kind]}, ${COMPARED}`] : [];
        if (unlikely) notes.push(`${UNLIKELY}: ${percent(chance)}`);
        if (notes.length) span.title = notes.join("; ");
        span.dataset.slot = number;
        cells[column].append(span, data.joint);
        spans.push(span);
      });
      slots.push(spans);
      starts.push(slot.at);
      if (slot.differs) {
        differences.push(number);
        line.classList.add("differs");
      }
      number += 1;
    }
    sheet.append(line);
  }
  // Columns beyond the right edge are announced: not every browser shows a scrollbar.
  const sideways = element("div", "sideways", "");
  root.append(sideways, sheet);
  const watched = new ResizeObserver(() => {
    const hidden = [...head.children].filter(
      (cell) => cell.offsetLeft + cell.offsetWidth > sheet.clientWidth + 2,
    ).length;
    const wide = hidden > 0 && sheet.scrollWidth > sheet.clientWidth + 2;
    root.classList.toggle("wide", wide);
    sideways.textContent = `Scroll right for ${hidden === 1 ? "1 more column" : `${hidden} more columns`} →`;
  });
  watched.observe(sheet);
  const total = data.differing;
  count.textContent = total === 1 ? "1 difference" : `${total} differences`;
  wave.mark(differences.map((slot) => starts[slot]).filter((at) => at !== null));
  previous.disabled = next.disabled = !differences.length;

  checkbox.onchange = () => sheet.classList.toggle("only-differences", checkbox.checked);
  sheet.onclick = (event) => {
    const word = event.target.closest(".word");
    if (word && starts[word.dataset.slot] !== null) play(starts[word.dataset.slot]);
  };
  sheet.onmouseover = (event) => highlight(event.target.closest(".word"));
  sheet.onmouseleave = () => highlight(null);

  let highlighted = [];
  function highlight(word) {
    for (const span of highlighted) span.classList.remove("highlighted");
    highlighted = word ? slots[word.dataset.slot] : [];
    for (const span of highlighted) span.classList.add("highlighted");
  }

  let position = -1;
  function go(step) {
    position = (position + step + differences.length) % differences.length;
    const spans = slots[differences[position]];
    highlight(spans[0]);
    spans[0].scrollIntoView({ block: "center", inline: "nearest", behavior: "instant" });
    count.textContent = `Difference ${position + 1} of ${differences.length}`;
  }
  previous.onclick = () => go(position < 0 ? 0 : -1);
  next.onclick = () => go(1);

  let playing = [];
  function follow(event) {
    if (event.target !== audio()) return;
    const now = event.target.currentTime;
    wave.move(now);
    let current = -1;
    for (let slot = 0; slot < starts.length; slot += 1) {
      if (starts[slot] !== null && starts[slot] <= now) current = slot;
    }
    for (const span of playing) span.classList.remove("now");
    playing = current < 0 ? [] : slots[current];
    for (const span of playing) span.classList.add("now");
  }
  // Media events do not bubble, but they are captured; the element may come after this one.
  const events = ["timeupdate", "seeked"];
  for (const name of events) document.addEventListener(name, follow, true);

  return {
    stamp: data.stamp,
    close() {
      watched.disconnect();
      for (const name of events) document.removeEventListener(name, follow, true);
    },
  };
}

function drawWaveform(data, seek) {
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
  slider.setAttribute("aria-label", "Position in the recording, in seconds");
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

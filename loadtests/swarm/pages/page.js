// The live page of a run: polls one JSON document and shows it. Names in it are hostile until
// shown otherwise, so they go into text nodes alone; nothing is asked of any other host.

const POLL_MS = 2000;
const SVG = "http://www.w3.org/2000/svg";
const BOX = { left: 84, right: 592, top: 8, bottom: 212 };
const SHORTEST_S = 30; // of a time axis
const STANDINGS = { holds: "pass", violated: "bad" };
const STATES = { PASS: "pass", FAIL: "bad" };

const at = (id) => document.getElementById(id);
let shown = null; // the newest document
let answered = Date.now();

// ---- text ---------------------------------------------------------------------------

function digits(value, count = 3) {
  return Number(value.toPrecision(count)).toLocaleString("en", { maximumSignificantDigits: count });
}

function time(us) {
  if (us === null || us === undefined) return "-";
  if (us >= 3.6e9) return "> 1 h";
  if (us < 999.5) return `${digits(us)} us`;
  return us < 999500 ? `${digits(us / 1000)} ms` : `${digits(us / 1e6)} s`;
}

const count = (value) => value.toLocaleString("en");
const seconds = (value) => (value === null ? "-" : `${value.toFixed(1)} s`);
const milliseconds = (value) => time(value === null ? null : value * 1000);

function write(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

// ---- tables -------------------------------------------------------------------------

function cell(content, numeric, kind) {
  const made = document.createElement("td");
  made.textContent = content;
  if (numeric) made.className = "number";
  if (kind) made.classList.add(kind);
  return made;
}

// `rows`: lists of contents, or of [content, class]; columns are numeric as their headings are.
function fill(id, rows, empty, leftOut = 0) {
  const table = at(id);
  const numeric = [...table.tHead.rows[0].cells].map((head) => head.className === "number");
  const made = rows.map((row) => {
    const line = document.createElement("tr");
    row.forEach((one, column) => {
      const [content, kind] = Array.isArray(one) ? one : [one, ""];
      line.append(cell(content, numeric[column], kind));
    });
    return line;
  });
  const note = rows.length === 0 ? empty : leftOut ? `and ${count(leftOut)} more` : "";
  if (note) {
    const line = document.createElement("tr");
    const only = cell(note, false, "muted");
    only.colSpan = numeric.length;
    line.append(only);
    made.push(line);
  }
  table.tBodies[0].replaceChildren(...made);
}

// ---- figures ------------------------------------------------------------------------

function element(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// Round values between the ends, at most about five.
function ticks(low, high, isLogarithmic) {
  if (isLogarithmic) {
    const powers = [];
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1) {
      if (10 ** power >= low) powers.push(10 ** power);
    }
    return powers;
  }
  const rough = Math.max(high / 4, 1);
  const scale = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * scale).find((one) => one >= rough);
  return Array.from({ length: Math.floor(high / step) + 1 }, (_, index) => index * step);
}

function line(starts, values, x, y) {
  let path = "";
  let before = null;
  values.forEach((value, index) => {
    if (value === null) {
      before = null;
      return;
    }
    const joins = before !== null && starts[index] === before + 1; // a hole stays a hole
    path += `${joins ? "L" : "M"}${x(starts[index]).toFixed(1)} ${y(value).toFixed(1)}`;
    if (!joins) path += "h0.1";
    before = starts[index];
  });
  return path;
}

function draw(id, starts, lines, limits, isLogarithmic, label) {
  const parts = [];
  const values = [...lines.flatMap((one) => one.values), ...limits.map((one) => one.limit_us)];
  const known = values.filter((value) => value !== null && (!isLogarithmic || value > 0));
  if (starts.length && known.length) {
    const high = Math.max(...known) * (isLogarithmic ? 1.3 : 1.05) || 1;
    const low = isLogarithmic ? Math.min(...known) / 1.3 : 0;
    const first = starts[0];
    const last = Math.max(starts[starts.length - 1], first + SHORTEST_S);
    const x = (s) => BOX.left + ((s - first) / (last - first)) * (BOX.right - BOX.left);
    const part = isLogarithmic
      ? (v) => Math.log(Math.max(v, low) / low) / Math.log(high / low)
      : (v) => v / high;
    const y = (v) => BOX.bottom - part(v) * (BOX.bottom - BOX.top);
    for (const value of ticks(low, high, isLogarithmic)) {
      parts.push(element("path", { class: "grid", d: `M${BOX.left} ${y(value)}H${BOX.right}` }));
      const place = { x: BOX.left - 6, y: y(value) + 4, "text-anchor": "end" };
      parts.push(element("text", place, label(value)));
    }
    for (const limit of limits) {
      parts.push(element("path", { class: "limit", d: `M${BOX.left} ${y(limit.limit_us)}H${BOX.right}` }));
      const isHigh = y(limit.limit_us) < BOX.top + 24;
      const place = { x: BOX.right, y: y(limit.limit_us) + (isHigh ? 18 : -5), "text-anchor": "end" };
      parts.push(element("text", place, limit.text));
    }
    for (const one of lines) {
      parts.push(element("path", { class: one.name, d: line(starts, one.values, x, y) }));
    }
    const t0 = shown.t0_unix_s ?? first;
    for (const [s, anchor] of [[first, "start"], [last, "end"]]) {
      const place = { x: x(s), y: BOX.bottom + 22, "text-anchor": anchor };
      parts.push(element("text", place, `${Math.round(s - t0)} s`));
    }
  } else {
    parts.push(element("text", { x: 300, y: 120, "text-anchor": "middle" }, "nothing yet"));
  }
  at(id).replaceChildren(...parts);
}

function drawFigures(run) {
  const all = run.series;
  const one = (name, values) => ({ name, values });
  draw(
    "times", all.start_s,
    [one("p50", all.p50_us), one("p95", all.p95_us), one("p99", all.p99_us)],
    run.limits, true, time,
  );
  draw(
    "rates", all.start_s,
    [one("planned", all.planned), one("sent", all.sent), one("done", all.done), one("errors", all.errors)],
    [], false, count,
  );
  draw("lags", all.start_s, [one("lag", all.send_lag_p99_us)], [], true, time);
}

// ---- the document -------------------------------------------------------------------

function showHead(run) {
  write("scenario", run.scenario);
  const scaled = run.scale === 1 ? "" : `, SCALED x ${run.scale}: does not show that the full target is met`;
  write("run", `run ${run.run_id}, ${run.load_model} load${scaled}`);
  const place = run.stage ? `stage ${run.stage}` : run.phase;
  const elapsed = run.elapsed_s === null ? "" : `, ${Math.round(run.elapsed_s)} of ${Math.round(run.total_s)} s`;
  const stop = run.stop_reason === null ? "" : `; stopping: ${run.stop_reason}`;
  write("place", place + elapsed + stop);
  at("progress").value = Math.min(1, Math.max(0, (run.elapsed_s ?? 0) / run.total_s));
  document.title = `${run.scenario}: ${run.verdict ? run.verdict.state : run.phase} - Headroom`;
}

function showVerdict(run) {
  const verdict = run.verdict;
  const state = at("state");
  write("state", verdict ? verdict.state : isOver(run) ? "over" : "?");
  state.className = `state ${verdict ? (STATES[verdict.state] ?? "open") : "open"}`;
  const later = "conservation, failovers and that the run came to its end are judged at its end";
  write("verdict-note", verdict ? `Provisional: ${run.verdict_note}; ${later}.` : run.verdict_note);
  const rows = (verdict?.objectives ?? []).map((one) => [
    one.text, one.stage, [one.standing, STANDINGS[one.standing] ?? "open"], one.value,
    one.required ? `${count(one.samples)} of ${count(one.required)}` : count(one.samples), one.reason,
  ]);
  fill("objectives", rows, "nothing judged yet", verdict?.left_out ?? 0);
  const findings = (verdict?.findings ?? []).map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  });
  at("findings").replaceChildren(...findings);
  const atEnd = verdict?.later ?? [];
  write("later", atEnd.length ? `Judged at the end: ${atEnd.join("; ")}` : "");
}

function showRequests(run) {
  const choice = at("request");
  const names = run.requests;
  if (choice.options.length !== names.length + 1) {
    const options = names.map((name, number) => new Option(name, String(number)));
    choice.replaceChildren(new Option("all", ""), ...options);
  }
  const newest = run.newest;
  const rows = (newest.start_s ?? []).length !== names.length + 1 ? [] : [...names, "all"].map((name, row) => [
    name,
    ...["planned", "sent", "done", "errors", "dropped"].map((column) => count(newest[column][row])),
    ...["p50_us", "p95_us", "p99_us"].map((column) => time(newest[column][row])),
  ]);
  fill("requests", rows, "nothing yet", run.left_out.requests);
}

function showTables(run) {
  fill("errors", run.errors.map((one) => [one.request, one.kind, count(one.count)]), "none", run.left_out.errors);
  write("fleet", `${run.agents_up} of ${run.agents_joined} agents up, ${run.engines_up} of ${run.engines} engines; the worst first`);
  const agents = run.agents.map((one) => [
    one.agent, one.is_alive ? "up" : ["LOST", "bad"], seconds(one.silence_s), seconds(one.lease_age_s),
    String(one.engines), time(one.send_lag_p99_us),
    one.cpu_ratio === null ? "-" : `${Math.round(one.cpu_ratio * 100)} %`,
    milliseconds(one.stalled_ms), milliseconds(one.hiccup_p99_ms),
    count(one.in_flight), count(one.backlog),
  ]);
  fill("agents", agents, "none yet", run.left_out.agents);
  const told = (one) => [seconds(one.at_s), one.who, one.text];
  fill("faults", run.faults.map(told), "none", run.left_out.faults);
  fill("events", run.events.map(told), "none", run.left_out.events);
}

function showActions(run) {
  at("stop").hidden = run.is_read_only || isOver(run);
  at("read-only").hidden = !run.is_read_only;
  write("stop", isStopping(run) ? "Stop at once" : "Emergency stop");
}

function show(run) {
  shown = run;
  if (run === null) return;
  showHead(run);
  showVerdict(run);
  showRequests(run);
  drawFigures(run);
  showTables(run);
  showActions(run);
}

async function look() {
  const choice = at("request").value;
  try {
    const answer = await fetch(`headroom/live.json${choice ? `?request=${choice}` : ""}`, { cache: "no-store" });
    if (answer.status === 401) {
      location.assign("headroom/login");
      return;
    }
    if (!answer.ok) throw new Error(`${answer.status}`);
    show(await answer.json());
    answered = Date.now();
    at("silence").hidden = true;
  } catch {
    const silent = Math.round((Date.now() - answered) / 1000);
    write("silence", `No answer from the master for ${silent} s: what follows is old. The run may be over; its archive has the verdict.`);
    at("silence").hidden = false;
  }
}

async function poll() {
  await look();
  setTimeout(poll, POLL_MS);
}

// ---- stopping -----------------------------------------------------------------------

const isOver = (run) => run.phase === "lingering" || run.phase === "ended";
const isStopping = (run) => run.stop_reason !== null || run.phase === "stopping";

function ask() {
  if (shown === null) return;
  const atOnce = isStopping(shown);
  write("question", atOnce
    ? "Stop at once? What agents have not handed over yet is lost, and the archive stays partial."
    : "Stop the run for everybody? Load ends, answers are waited for, and the archive says who stopped it.");
  const dialog = at("confirm");
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue === "yes") stop(atOnce ? "headroom/stop-at-once" : "headroom/stop");
  };
  dialog.showModal();
}

async function stop(path) {
  try {
    const answer = await fetch(path, { method: "POST" });
    write("place", (await answer.json()).text);
  } catch {
    write("place", "The master did not answer.");
  }
  await look();
}

at("stop").addEventListener("click", ask);
at("request").addEventListener("change", look);
poll();

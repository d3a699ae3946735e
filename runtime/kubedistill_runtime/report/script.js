"use strict";
// Text of models is only ever set as text, never as HTML.
(() => {
  const PAGE = 12;
  const data = JSON.parse(document.getElementById("excerpts").textContent);
  const CHANGE = {better: "better than before", same: "the same as before", worse: "worse than before", new: "no base"};

  function make(tag, name, ...children) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    node.append(...children);
    return node;
  }

  function percent(share) {
    return share === null ? "–" : `${Math.round(100 * share)} %`;
  }

  // The text with the searched words marked.
  function marked(text, words, into) {
    if (!words) { into.append(text); return into; }
    const low = text.toLowerCase();
    // Lower-casing may change the length of rare letters; marks would then sit beside the words.
    if (low.length !== text.length) { into.append(text); return into; }
    let at = 0;
    for (let hit = low.indexOf(words); hit >= 0; hit = low.indexOf(words, at)) {
      into.append(text.slice(at, hit), make("mark", "", text.slice(hit, hit + words.length)));
      at = hit + words.length;
    }
    into.append(text.slice(at));
    return into;
  }

  function responseHead(response) {
    const verdict = response.correct ? ["good", "right"] : response.method === "none" ? ["", "no verdict"] : ["bad", "wrong"];
    const head = make("header", "", make("b", "", response.who || `#${response.index}`));
    head.append(make("span", `chip ${verdict[0]}`, verdict[1]));
    if (response.truncated) head.append(make("span", "chip bad", "cut off"));
    if (response.kept === true) head.append(make("span", "chip good", "kept"));
    if (response.kept === false) head.append(make("span", "chip", `dropped: ${response.reason.replaceAll("_", " ")}`));
    if (response.tokens !== null) head.append(make("span", "tokens", `${response.tokens.toLocaleString("en")} tokens`));
    return head;
  }

  function responseCard(response, words) {
    const card = make("article", response.kept ? "response kept" : "response", responseHead(response));
    const method = response.method && response.method !== "none" && !response.note.includes(response.method) && `judged by ${response.method}`;
    const why = [response.note, response.error, method].filter(Boolean);
    if (why.length) card.append(make("p", "why", why.join(" · ")));
    // The answer stays in sight while the thinking scrolls.
    const end = response.text.lastIndexOf("</think>");
    const parts = end < 0 ? [["whole", response.text]]
      : [["think", response.text.slice(0, end + 8)], ["answer", response.text.slice(end + 8).trim()]];
    for (const [name, text] of parts) {
      const body = marked(text, words, make("pre", name));
      body.tabIndex = 0;
      body.dir = "auto";
      if (text) card.append(body);
    }
    return card;
  }

  // Length of the whole words that both texts begin with.
  function beginning(one, other) {
    let at = 0;
    while (at < one.length && one[at] === other[at]) at++;
    const ends = (text) => at === text.length || /\s/.test(text[at]);
    while (at > 0 && !(ends(one) && ends(other)) && !/\s/.test(one[at - 1])) at--;
    return at;
  }

  // Two responses in full beside each other, or below where there is no room; what both begin with is faint.
  function comparison(responses) {
    const [one, other] = responses.map((r) => r.text);
    const same = beginning(one, other);
    const count = one.slice(0, same).split(/\s+/).filter(Boolean).length;
    const said = one === other ? "Both are the same." : count ? `Both begin with the same ${count} word${count === 1 ? "" : "s"}.` : "They differ from the first word on.";
    return [make("p", "why", said), ...responses.map((response) => {
      const text = make("pre", "", make("span", "same", response.text.slice(0, same)), response.text.slice(same));
      text.tabIndex = 0;
      text.dir = "auto";
      return make("article", response.kept ? "response kept" : "response", responseHead(response), text);
    })];
  }

  // The cards of an entry's responses, each with a button that takes it into the comparison: the last two are shown.
  function responseCards(entry, words) {
    const cards = entry.responses.map((response) => responseCard(response, words));
    const pair = make("div", "comparison");
    pair.hidden = true;
    pair.setAttribute("aria-live", "polite");
    if (cards.length < 2) return [cards, pair];
    let chosen = [];
    const buttons = cards.map((card, at) => {
      const button = make("button", "compare", "compare");
      button.type = "button";
      button.addEventListener("click", () => {
        chosen = chosen.includes(at) ? chosen.filter((other) => other !== at) : [...chosen, at].slice(-2);
        buttons.forEach((other, i) => other.setAttribute("aria-pressed", String(chosen.includes(i))));
        pair.hidden = chosen.length < 2;
        if (pair.hidden) return;
        pair.replaceChildren(...comparison(chosen.map((i) => entry.responses[i])));
        pair.scrollIntoView({block: "nearest"});
      });
      button.setAttribute("aria-pressed", "false");
      card.firstElementChild.append(button);
      return button;
    });
    return [cards, pair];
  }

  function summaryChips(entry) {
    const chips = make("span", "chips");
    if ("passRate" in entry.facts) {
      const right = entry.responses.filter((r) => r.correct).length;
      const kept = entry.responses.filter((r) => r.kept).length;
      if (entry.facts.passRate !== null) chips.append(make("span", "chip", `student ${percent(entry.facts.passRate)}`));
      chips.append(make("span", "chip", `${right} of ${entry.responses.length} right`));
      if (kept) chips.append(make("span", "chip good", `${kept} kept`));
    } else {
      const style = {better: "good", worse: "bad"}[entry.note] || "";
      const before = entry.facts.base === null ? "" : `${percent(entry.facts.base)} → `;
      chips.append(make("span", `chip ${style}`, before + percent(entry.facts.student)));
    }
    return chips;
  }

  function entryCard(entry, words) {
    const summary = make("summary", "", marked(entry.question || entry.id, words, make("span", "q")), summaryChips(entry));
    const card = make("details", "entry", summary);
    card.addEventListener("toggle", () => {
      if (!card.open || card.childElementCount > 1) return;
      const about = make("p", "about");
      if (entry.gold) about.append("Gold answer: ", make("b", "", entry.gold), " · ");
      about.append(CHANGE[entry.note] || entry.note || "", entry.note ? " · " : "", make("code", "", entry.id));
      const style = "passRate" in entry.facts ? "responses" : "responses narrow";
      const [cards, pair] = responseCards(entry, words);
      card.append(about, pair, make("div", style, ...cards));
    });
    return card;
  }

  // What the second field filters by: reasons for traces, change for answers.
  function kindsOf(entry) {
    if (!("passRate" in entry.facts)) return [entry.note];
    return entry.responses.map((r) => r.kept ? "kept" : r.kept === false ? r.reason : r.correct ? "right" : "wrong");
  }

  function start(form) {
    const name = form.dataset.browser;
    const entries = data[name];
    const list = document.getElementById(`${name}-entries`);
    const more = list.nextElementSibling;
    const {text, kind, group} = form.elements;
    const output = form.querySelector("output");
    const texts = entries.map((e) => [e.question, e.gold, e.id, ...e.responses.map((r) => r.text)].join("\n").toLowerCase());
    const kinds = new Map();
    entries.forEach((e) => new Set(kindsOf(e)).forEach((k) => kinds.set(k, (kinds.get(k) || 0) + 1)));
    kind.append(new Option(`All (${entries.length})`, ""));
    [...kinds].sort().forEach(([k, n]) => kind.append(new Option(`${(CHANGE[k] || k).replaceAll("_", " ")} (${n})`, k)));
    const groups = [...new Set(entries.map((e) => e.group))];
    if (groups.length > 1) {
      group.append(new Option("All", ""), ...groups.map((g) => new Option(g, g)));
      group.closest("label").hidden = false;
    }
    let shown = PAGE;

    function show() {
      const words = text.value.trim().toLowerCase();
      const found = entries.filter((e, i) =>
        (!words || texts[i].includes(words)) && (!kind.value || kindsOf(e).includes(kind.value)) &&
        (!group.value || e.group === group.value));
      list.replaceChildren(...found.slice(0, shown).map((e) => entryCard(e, words)));
      if (!found.length) list.append(make("p", "empty", "Nothing matches."));
      more.hidden = found.length <= shown;
      output.textContent = `${found.length} question${found.length === 1 ? "" : "s"}`;
      if (list.firstElementChild.tagName === "DETAILS" && (words || kind.value)) list.firstElementChild.open = true;
    }

    let waiting = 0;
    form.addEventListener("input", () => {
      shown = PAGE;
      clearTimeout(waiting);
      waiting = setTimeout(show, 120);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    more.addEventListener("click", () => {
      const before = shown;
      shown += PAGE;
      show();
      list.children[before].querySelector("summary").focus();
    });
    show();
  }

  document.querySelectorAll("form[data-browser]").forEach(start);

  const tip = document.getElementById("tip");
  document.addEventListener("pointermove", (event) => {
    const target = event.target.closest?.("[data-tip]");
    tip.hidden = !target;
    if (!target) return;
    tip.textContent = target.dataset.tip;
    const box = tip.getBoundingClientRect();
    const left = event.clientX + 14 + box.width > innerWidth ? event.clientX - 14 - box.width : event.clientX + 14;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, event.clientY - box.height - 10)}px`;
  });

  // A link to a stage opens it.
  function openTarget() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  }
  addEventListener("hashchange", openTarget);
  openTarget();

  const links = new Map([...document.querySelectorAll(".toc a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((changes) => {
    for (const change of changes) {
      if (!change.isIntersecting) continue;
      links.forEach((a) => a.removeAttribute("aria-current"));
      links.get(change.target.id)?.setAttribute("aria-current", "true");
    }
  }, {rootMargin: "-10% 0px -80% 0px"});
  document.querySelectorAll("main > section[id]").forEach((section) => seen.observe(section));
})();

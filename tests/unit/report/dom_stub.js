// Runs the report's script on the smallest document that it needs: node dom_stub.js SCRIPT EXCERPTS CLICKS
// Opens the first entry, clicks the "compare" buttons by number, and prints what the comparison shows after each click.
"use strict";
const fs = require("fs");

class Element {
  constructor(tag) {
    Object.assign(this, {tagName: tag.toUpperCase(), children: [], attributes: {}, listeners: {}, dataset: {}, className: ""});
  }
  append(...nodes) { this.children.push(...nodes); }
  replaceChildren(...nodes) { this.children = nodes; }
  setAttribute(name, value) { this.attributes[name] = value; }
  removeAttribute(name) { delete this.attributes[name]; }
  addEventListener(type, listener) { (this.listeners[type] ??= []).push(listener); }
  fire(type) { (this.listeners[type] ?? []).forEach((listener) => listener({preventDefault() {}})); }
  scrollIntoView() {}
  closest() { return new Element("label"); }
  querySelector() { return new Element("output"); }
  get elementsInside() { return this.children.filter((child) => child instanceof Element); }
  get firstElementChild() { return this.elementsInside[0]; }
  get childElementCount() { return this.elementsInside.length; }
  set textContent(text) { this.children = [text]; }
  get textContent() { return this.children.map((child) => child instanceof Element ? child.textContent : child).join(""); }
  all(name) { return this.elementsInside.flatMap((child) => [...(child.className === name ? [child] : []), ...child.all(name)]); }
}

const [script, excerpts, clicks] = process.argv.slice(2);
const byId = {excerpts: new Element("script"), tip: new Element("div"), "traces-entries": new Element("div")};
byId.excerpts.textContent = excerpts;
byId["traces-entries"].nextElementSibling = new Element("button");
const form = new Element("form");
form.dataset.browser = "traces";
form.elements = Object.fromEntries(["text", "kind", "group"].map((n) => [n, Object.assign(new Element("input"), {value: ""})]));
Object.assign(globalThis, {
  document: {
    createElement: (tag) => new Element(tag),
    getElementById: (id) => byId[id],
    querySelectorAll: (selector) => selector.startsWith("form") ? [form] : [],
    addEventListener() {},
  },
  Option: function Option() { return new Element("option"); },
  addEventListener() {},
  location: {hash: ""},
  IntersectionObserver: class { observe() {} },
});
eval(fs.readFileSync(script, "utf8"));

const card = byId["traces-entries"].children[0];
card.open = true;
card.fire("toggle");
const buttons = card.all("compare");
const [pair] = card.all("comparison");
console.log(JSON.stringify(clicks.split(",").filter(Boolean).map((number) => {
  buttons[Number(number)].fire("click");
  const pressed = buttons.flatMap((button, i) => button.attributes["aria-pressed"] === "true" ? [i] : []);
  if (pair.hidden) return {pressed, said: null};
  const [said, ...cards] = pair.children;
  return {pressed, said: said.textContent, same: pair.all("same").map((s) => s.textContent), texts: cards.map((c) => c.children[1].textContent)};
})));

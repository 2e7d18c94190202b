"use strict";
// What all scripts of the page share. Names, labels and reasons come from files of others:
// they are only ever set as text, never as HTML.
const View = {};

View.byId = (id) => document.getElementById(id);

View.element = (name, properties = {}, ...children) => {
  const element = document.createElement(name);
  Object.assign(element, properties);
  element.append(...children);
  return element;
};

View.option = (value, text) => View.element("option", {value: String(value), textContent: text});

View.fill = (select, options, value) => {
  select.replaceChildren(...options);
  if (value !== undefined && [...select.options].some((one) => one.value === String(value))) {
    select.value = String(value);
  }
};

View.say = (...sentences) => {
  const notes = View.byId("notes");
  if (notes) notes.textContent = sentences.filter(Boolean).join("  ");
};

// Addresses are relative to the page, whose own begins with the token.
View.get = async (address) => {
  const reply = await fetch(address, {credentials: "omit"});
  const content = await reply.json();
  if (!reply.ok) throw new Error(content.error || `${reply.status}`);
  return content;
};

View.number = (value) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
};

// A number that fits under a tile.
View.short = (value) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(1) : String(Number(value.toPrecision(2)));
};

View.query = (values) => {
  const known = Object.entries(values).filter(([, value]) => value !== null && value !== "");
  return new URLSearchParams(known).toString();
};

// Round lengths of a scale bar, micrometres.
View.LENGTHS_UM = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000];

View.scaleBar = (element, unitUm, unitsPerPixel) => {
  const umPerPixel = unitUm * unitsPerPixel;
  element.hidden = !(umPerPixel > 0);
  if (element.hidden) return;
  const fitting = View.LENGTHS_UM.filter((length) => length / umPerPixel <= 170);
  const length = fitting.length ? fitting[fitting.length - 1] : View.LENGTHS_UM[0];
  const bar = element.firstElementChild;
  bar.style.width = `${Math.max(24, length / umPerPixel)}px`;
  bar.textContent = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
};

View.colourBar = (host, layer) => {
  host.replaceChildren();
  if (!layer) return;
  const ramp = View.element("div", {className: "ramp"});
  ramp.style.background = `linear-gradient(to right, ${layer.colours.join(", ")})`;
  const about = layer.about ? `${layer.label}, for ${layer.about}` : layer.label;
  host.append(
    View.element("span", {textContent: View.number(layer.low)}),
    ramp,
    View.element("span", {textContent: View.number(layer.high)}),
    View.element("span", {className: "label", textContent: about, title: about}),
  );
};

// Elements from data. Text becomes text nodes only; nothing here or elsewhere writes markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element. Attributes: `onclick` adds a listener, true is an empty attribute, null and false none. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** The element with that id. */
export const byId = (id) => document.getElementById(id);

/** Puts `children` in the place of all that `node` had. */
export function show(node, ...children) {
  node.replaceChildren(...children.flat().filter(Boolean));
}

// Where the nodes of a graph go: springs along links, repulsion between nodes, then no two boxes overlap.
// Deterministic: the same graph in the same box gives the same picture.

const STEPS = 260;
const GAP = 8; // between two boxes
const MARGIN = 10; // between a box and the picture's edge
const GOLDEN_ANGLE = Math.PI * (3 - Math.sqrt(5));

/**
 * nodes: [{id, w, h, x?, y?}] with the size of each box in pixels, the most important first; given x and y
 * are where it starts. links: [{source, target}] of ids. Sets x and y (the box's centre) within width x height.
 */
export function layout(nodes, links, width, height) {
  nodes.forEach((node, i) => {
    if (Number.isFinite(node.x)) return;
    const reach = Math.sqrt((i + 0.5) / nodes.length) * 0.45;
    node.x = width * (0.5 + reach * Math.cos(i * GOLDEN_ANGLE));
    node.y = height * (0.5 + reach * Math.sin(i * GOLDEN_ANGLE));
  });
  const at = new Map(nodes.map((node) => [node.id, node]));
  const pairs = links.map((link) => [at.get(link.source), at.get(link.target)]).filter(([a, b]) => a && b && a !== b);
  const ideal = 0.8 * Math.sqrt((width * height) / Math.max(nodes.length, 1));
  for (let step = 0; step < STEPS; step++) {
    const most = ideal * 0.5 * (1 - step / STEPS) + 1; // how far a node may go in this step
    move(nodes, forces(nodes, pairs, ideal, width, height), most);
    keepIn(nodes, width, height);
  }
  for (let pass = 0; pass < 200 && partBoxes(nodes); pass++) keepIn(nodes, width, height);
}

function forces(nodes, pairs, ideal, width, height) {
  const force = new Map(nodes.map((node) => [node, { x: 0, y: 0 }]));
  const push = (a, b, strength, dx, dy, distance) => {
    const fx = (dx / distance) * strength;
    const fy = (dy / distance) * strength;
    force.get(a).x -= fx;
    force.get(a).y -= fy;
    force.get(b).x += fx;
    force.get(b).y += fy;
  };
  nodes.forEach((a, i) => {
    force.get(a).x += (width / 2 - a.x) * 0.04;
    force.get(a).y += (height / 2 - a.y) * 0.04 * (width / height);
    for (const b of nodes.slice(i + 1)) {
      const [dx, dy, distance] = between(a, b);
      push(a, b, (ideal * ideal) / distance / 3, dx, dy, distance);
    }
  });
  for (const [a, b] of pairs) {
    const [dx, dy, distance] = between(a, b);
    push(a, b, (-distance * distance) / ideal / 4, dx, dy, distance);
  }
  return force;
}

function between(a, b) {
  const dx = b.x - a.x || 0.01;
  const dy = b.y - a.y || 0.01;
  return [dx, dy, Math.hypot(dx, dy)];
}

function move(nodes, force, most) {
  for (const node of nodes) {
    const { x, y } = force.get(node);
    const share = Math.min(1, most / (Math.hypot(x, y) || 1));
    node.x += x * share;
    node.y += y * share;
  }
}

function partBoxes(nodes) {
  let moved = false;
  nodes.forEach((a, i) => {
    for (const b of nodes.slice(i + 1)) {
      const overX = (a.w + b.w) / 2 + GAP - Math.abs(a.x - b.x);
      const overY = (a.h + b.h) / 2 + GAP - Math.abs(a.y - b.y);
      if (overX <= 0.01 || overY <= 0.01) continue;
      moved = true;
      const axis = overX < overY ? "x" : "y";
      const half = (Math.min(overX, overY) / 2) * (a[axis] <= b[axis] ? 1 : -1);
      a[axis] -= half;
      b[axis] += half;
    }
  });
  return moved;
}

function keepIn(nodes, width, height) {
  for (const node of nodes) {
    const [w, h] = [node.w / 2 + MARGIN, node.h / 2 + MARGIN];
    node.x = Math.min(width - w, Math.max(w, node.x));
    node.y = Math.min(height - h, Math.max(h, node.y));
  }
}

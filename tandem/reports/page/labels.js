// Names beside points, where they hide nothing: each takes the best place that is left, and a line where it is far.

const DIRECTIONS = [
  [1, 0],
  [-1, 0],
  [0, -1],
  [0, 1],
  [1, -1],
  [-1, -1],
  [1, 1],
  [-1, 1],
];
const DISTANCES = [0, 7, 18, 32, 48, 68, 90];
const ROUNDS = 3;
const BESIDE = 16; // so near to a point, a name is taken for its own
const SAME = 3;

const apart = (a, b, air) =>
  a.right + air <= b.left || b.right + air <= a.left || a.bottom + air <= b.top || b.bottom + air <= a.top;
const within = (box, area) =>
  box.left >= area.left && box.right <= area.right && box.top >= area.top && box.bottom <= area.bottom;
const holds = (box, [x, y]) => x >= box.left - 2 && x <= box.right + 2 && y >= box.top - 1 && y <= box.bottom + 1;

/** Return how far a position is from a box; 0 within it. */
function distance(box, { x, y }) {
  return Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
}

function boxAt(point, [dx, dy], extra) {
  const gap = point.r + 4 + extra;
  const x = point.x + dx * gap * (dy ? 0.75 : 1);
  const y = point.y + dy * (gap + point.height / 2 - 3) * (dx ? 0.8 : 1);
  const left = dx > 0 ? x : dx < 0 ? x - point.width : x - point.width / 2;
  return { left, right: left + point.width, top: y - point.height / 2, bottom: y + point.height / 2 };
}

/**
 * Return for each point the box of its label, with `far` if it needs a line to its point; null where there is no room,
 * or where the point is `quiet`.
 *
 * A label never covers another one or a point; only where it must does it cover `avoided`, which are positions on
 * lines, or stand nearer to another point than to its own.
 */
export function placeLabels(points, area, avoided) {
  const placed = points.map(() => null);
  const dots = points.map(({ x, y, r }) => ({ left: x - r, right: x + r, top: y - r, bottom: y + r }));
  for (let round = 0; round < ROUNDS; round += 1) {
    points.forEach((point, own) => {
      if (point.quiet) return;
      const elsewhere = points.filter(({ x, y }) => Math.hypot(x - point.x, y - point.y) > SAME);
      let best = null;
      let least = Infinity;
      DISTANCES.forEach((extra, ring) => {
        DIRECTIONS.forEach((direction, turn) => {
          const box = boxAt(point, direction, extra);
          if (!within(box, area)) return;
          if (dots.some((dot, i) => i !== own && !apart(box, dot, 1))) return;
          if (placed.some((other, i) => i !== own && other && !apart(box, other, 2))) return;
          const reach = distance(box, point);
          const near = Math.min(reach + 4, BESIDE);
          const stolen = elsewhere.filter((other) => distance(box, other) < near).length;
          if (stolen > 1) return;
          const cost = 3 * avoided.filter((at) => holds(box, at)).length + 25 * stolen + 5 * ring + 0.4 * turn;
          if (cost < least) [best, least] = [{ ...box, far: ring > 1 || stolen > 0 }, cost];
        });
      });
      placed[own] = best;
    });
  }
  return placed;
}

/** Draws a scene: only what the camera sees, and only as much of it as its size on the screen allows. */
import { type BoxId, type Scene, type SceneBox, type SceneEdge, shortName } from '../src/view/scene.ts';
import type { Theme } from './colours.ts';
import type { Network, SideName } from './network.ts';

export interface Camera {
  /** Position on the canvas of the scene's corner, and pixels a unit. */
  readonly x: number;
  readonly y: number;
  readonly scale: number;
}

export interface Look {
  readonly theme: Theme;
  readonly fill: (side: SideName, id: BoxId) => string;
  readonly selected: BoxId | undefined;
  readonly hovered: BoxId | undefined;
  /** What belongs to the selection or to what is under the pointer, on the other side. */
  readonly linked: ReadonlySet<BoxId>;
  readonly focused: boolean;
}

/** Below these scales there is no text, no arrow, no rounded corner. */
const TEXT_SCALE = 0.42;
const LABEL_SCALE = 0.75;
const SHAPE_SCALE = 0.16;

interface View {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

export function paint(
  context: CanvasRenderingContext2D,
  size: { readonly width: number; readonly height: number; readonly ratio: number },
  side: SideName,
  scene: Scene,
  camera: Camera,
  network: Network,
  look: Look,
): void {
  const { ratio } = size;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, size.width, size.height);
  context.setTransform(ratio * camera.scale, 0, 0, ratio * camera.scale, ratio * camera.x, ratio * camera.y);
  const view: View = {
    left: -camera.x / camera.scale,
    top: -camera.y / camera.scale,
    right: (size.width - camera.x) / camera.scale,
    bottom: (size.height - camera.y) / camera.scale,
  };
  const seen = scene.boxes.filter(
    (box) =>
      box.x < view.right && box.y < view.bottom && box.x + box.width > view.left && box.y + box.height > view.top,
  );
  for (const box of seen) if (box.frame) paintFrame(context, box, side, camera.scale, network, look);
  paintEdges(
    context,
    scene.edges.filter((edge) => inView(edge, view)),
    camera.scale,
    look,
  );
  for (const box of seen) if (!box.frame) paintBox(context, box, side, camera.scale, network, look);
}

function inView({ points }: SceneEdge, view: View): boolean {
  let [left, right] = [points[0], points[0]];
  for (let i = 2; i < points.length; i += 2) {
    if (points[i] < left) left = points[i];
    if (points[i] > right) right = points[i];
  }
  const [a, b] = [points[1], points[points.length - 1]];
  return left < view.right && right > view.left && Math.min(a, b) < view.bottom && Math.max(a, b) > view.top;
}

function paintFrame(
  context: CanvasRenderingContext2D,
  box: SceneBox,
  side: SideName,
  scale: number,
  network: Network,
  look: Look,
): void {
  const { theme } = look;
  context.fillStyle = theme.frame;
  context.strokeStyle = outline(box.id, look) ?? theme.line;
  context.lineWidth = (outline(box.id, look) ? 2 : 1) / Math.min(1, scale);
  shape(context, box.x, box.y, box.width, box.height, 10, scale);
  context.fill();
  context.stroke();
  if (scale < TEXT_SCALE) return;
  context.fillStyle = theme.muted;
  context.font = '600 12px system-ui, "DejaVu Sans", sans-serif';
  context.textBaseline = 'middle';
  context.textAlign = 'left';
  context.fillText(`−  ${network.label(side, box.id)}`, box.x + 12, box.y + 14, box.width - 20);
}

function paintBox(
  context: CanvasRenderingContext2D,
  box: SceneBox,
  side: SideName,
  scale: number,
  network: Network,
  look: Look,
): void {
  const { theme } = look;
  const { x, y, width, height, id } = box;
  const ring = outline(id, look);
  context.strokeStyle = ring ?? theme.line;
  context.lineWidth = (ring ? 2.5 : 1) / Math.min(1, scale * 1.2);
  const fill = look.fill(side, id);
  if (id < 0 && scale >= SHAPE_SCALE) {
    // A closed block looks like a pile of what it holds.
    context.fillStyle = theme.frame;
    shape(context, x + 5, y + 5, width, height, 8, scale);
    context.fill();
    context.stroke();
  }
  context.fillStyle = fill;
  const item = network.item(side, id);
  shape(context, x, y, width, height, item?.kind === 'end' ? height / 2 : 8, scale);
  context.fill();
  if (scale >= SHAPE_SCALE || ring) context.stroke();
  if (scale < TEXT_SCALE) return;
  context.textBaseline = 'middle';
  context.textAlign = 'left';
  context.fillStyle = theme.text;
  context.font = '600 12.5px system-ui, "DejaVu Sans", sans-serif';
  const title = item ? item.title : network.model.groups[-1 - id].label;
  const below = item
    ? shortName(item.name)
    : `${network.itemsIn(side, id).length} ${side === 'engine' ? 'steps' : 'nodes'}`;
  cutText(context, title, x + 12, y + height / 2 - (below === '' ? 0 : 8), width - (id < 0 ? 34 : 22));
  if (id < 0) context.fillText('+', x + width - 20, y + height / 2 - 8);
  context.globalAlpha = 0.72;
  context.font = '11px system-ui, "DejaVu Sans", sans-serif';
  cutText(context, below, x + 12, y + height / 2 + 9, width - 22);
  context.globalAlpha = 1;
}

const outline = (id: BoxId, look: Look): string | undefined => {
  if (id === look.selected) return look.theme.accent;
  if (look.linked.has(id)) return look.theme.linked;
  return id === look.hovered ? look.theme.muted : undefined;
};

/** Text cut with an ellipsis where it does not fit. */
function cutText(context: CanvasRenderingContext2D, text: string, x: number, y: number, width: number): void {
  let shown = text;
  if (context.measureText(text).width > width) {
    let [low, high] = [0, text.length];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (context.measureText(`${text.slice(0, middle)}…`).width <= width) low = middle;
      else high = middle - 1;
    }
    shown = `${text.slice(0, low)}…`;
  }
  context.fillText(shown, x, y);
}

function shape(
  context: CanvasRenderingContext2D,
  x: number,
  y: number,
  width: number,
  height: number,
  radius: number,
  scale: number,
): void {
  context.beginPath();
  if (scale < SHAPE_SCALE) context.rect(x, y, width, height);
  else context.roundRect(x, y, width, height, radius);
}

function paintEdges(context: CanvasRenderingContext2D, edges: readonly SceneEdge[], scale: number, look: Look): void {
  const { theme } = look;
  const marked = (edge: SceneEdge) => [look.selected, look.hovered].some((id) => id !== undefined && touches(edge, id));
  const groups = [edges.filter((edge) => !marked(edge)), edges.filter(marked)];
  for (const [i, group] of groups.entries()) {
    context.strokeStyle = i === 0 ? theme.edge : theme.accent;
    context.fillStyle = context.strokeStyle;
    context.lineWidth = (i === 0 ? 1.2 : 2) / Math.max(0.5, Math.min(1, scale));
    context.beginPath();
    for (const edge of group) trace(context, edge.points, scale);
    context.stroke();
    if (scale < SHAPE_SCALE) continue;
    context.beginPath();
    for (const { points, arrow } of group) {
      if (!arrow) continue;
      const [x, y] = points.slice(-2);
      context.moveTo(x, y);
      context.lineTo(x - 4, y - 8);
      context.lineTo(x + 4, y - 8);
    }
    context.fill();
  }
  if (scale >= LABEL_SCALE) paintLabels(context, edges, theme);
}

const touches = (edge: SceneEdge, id: BoxId): boolean =>
  edge.from === id || edge.to === id || (id >= 0 && edge.source === id);

function paintLabels(context: CanvasRenderingContext2D, edges: readonly SceneEdge[], theme: Theme): void {
  context.font = '10px ui-monospace, "DejaVu Sans Mono", monospace';
  context.textBaseline = 'middle';
  context.textAlign = 'left';
  context.lineWidth = 3;
  context.strokeStyle = theme.ground;
  context.fillStyle = theme.muted;
  const done = new Set<string>();
  for (const { points, label, source } of edges) {
    const key = `${source} ${label}`;
    if (label === '' || done.has(key)) continue;
    done.add(key);
    const [x, y] = [points[0] + 7, points[1] + 11];
    context.strokeText(label, x, y);
    context.fillText(label, x, y);
  }
}

/** A smooth line downwards through the points; a straight one where nobody would see the difference. */
function trace(context: CanvasRenderingContext2D, points: readonly number[], scale: number): void {
  context.moveTo(points[0], points[1]);
  for (let i = 2; i < points.length; i += 2) {
    const [x0, y0, x1, y1] = [points[i - 2], points[i - 1], points[i], points[i + 1]];
    if (scale < SHAPE_SCALE || x0 === x1) context.lineTo(x1, y1);
    else {
      const bend = Math.max(12, Math.abs(y1 - y0) / 2);
      context.bezierCurveTo(x0, y0 + bend, x1, y1 - bend, x1, y1);
    }
  }
}

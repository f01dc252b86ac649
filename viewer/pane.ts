/** One graph on a canvas: its scene, its camera, the pointer and the keys that walk it. */
import type { BoxId, Scene, SceneBox } from '../src/view/scene.ts';
import { el } from './dom.ts';
import type { Layouts } from './layouts.ts';
import { otherSide, type SideName } from './network.ts';
import { type Camera, type Look, paint } from './paint.ts';
import type { State } from './state.ts';

const TITLES: Readonly<Record<SideName, string>> = { graph: 'Model', engine: 'Engine' };
const [LEAST_SCALE, MOST_SCALE] = [0.01, 3];
const MARGIN = 40;

export class Pane {
  readonly side: SideName;
  readonly root: HTMLElement;
  readonly canvas: HTMLCanvasElement;
  scene: Scene = { boxes: [], edges: [], width: 0, height: 0 };
  #camera: Camera = { x: MARGIN, y: MARGIN, scale: 1 };
  #look: Look | undefined;
  #boxes = new Map<BoxId, SceneBox>();
  #frame = 0;
  #moved = false;
  readonly #state: State;
  readonly #layouts: Layouts;
  readonly #pointers = new Map<number, { x: number; y: number }>();

  constructor(side: SideName, state: State, layouts: Layouts) {
    this.side = side;
    this.#state = state;
    this.#layouts = layouts;
    this.canvas = el('canvas', {
      tabindex: 0,
      role: 'application',
      'aria-roledescription': 'graph',
      'aria-label': `${TITLES[side]}: ${state.network.side(side).items.length} items. Arrow keys walk the graph, Enter opens a block, L shows it as a list.`,
      'data-side': side,
    });
    this.root = el('section', { class: 'pane', 'aria-label': TITLES[side] }, this.canvas, el('h2', {}, TITLES[side]));
    this.#listen();
    new ResizeObserver(() => this.#resized()).observe(this.canvas);
  }

  /** Lays the open blocks out anew; what is `kept` stays where it is on the screen. */
  async relayout(kept?: BoxId): Promise<void> {
    const before = kept === undefined ? undefined : this.#boxes.get(kept);
    const first = this.scene.boxes.length === 0;
    const { open } = this.#state;
    const scene = await this.#layouts.scene(this.side, open);
    // A later choice of blocks may be under way already.
    if (open !== this.#state.open) return;
    this.scene = scene;
    this.#boxes = new Map(scene.boxes.map((box) => [box.id, box]));
    const after = kept === undefined ? undefined : this.#boxes.get(kept);
    const { scale } = this.#camera;
    if (first || kept === undefined) this.fit();
    else if (before && after) this.#moveBy((middle(before) - middle(after)) * scale, (before.y - after.y) * scale);
    this.draw();
  }

  show(look: Look): void {
    this.#look = look;
    this.draw();
  }

  draw(): void {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      const context = this.canvas.getContext('2d');
      if (!context || !this.#look) return;
      const size = { width: this.canvas.clientWidth, height: this.canvas.clientHeight, ratio: devicePixelRatio || 1 };
      paint(context, size, this.side, this.scene, this.#camera, this.#state.network, this.#look);
    });
  }

  /** All of it if it can be read so; else its width, from the top. */
  fit(whole = false): void {
    const { clientWidth, clientHeight } = this.canvas;
    const { width, height } = this.scene;
    if (clientWidth === 0 || width === 0) return;
    const across = (clientWidth - 2 * MARGIN) / width;
    const all = Math.min(across, (clientHeight - 2 * MARGIN) / height);
    const scale = Math.min(1.1, whole || all >= 0.55 ? all : Math.min(across, Math.max(all, 0.85)));
    const y = height * scale <= clientHeight ? (clientHeight - height * scale) / 2 : MARGIN;
    this.#camera = { x: (clientWidth - width * scale) / 2, y, scale };
    this.#moved = false;
    this.draw();
  }

  zoom(factor: number, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2): void {
    const scale = Math.min(MOST_SCALE, Math.max(LEAST_SCALE, this.#camera.scale * factor));
    const by = scale / this.#camera.scale;
    this.#camera = { scale, x: x - (x - this.#camera.x) * by, y: y - (y - this.#camera.y) * by };
    this.#moved = true;
    this.draw();
  }

  box(id: BoxId): SceneBox | undefined {
    return this.#boxes.get(id);
  }

  /** Brings a box into sight, and to a readable size. */
  reveal(id: BoxId): void {
    const box = this.#boxes.get(id);
    if (!box) return;
    const { clientWidth, clientHeight } = this.canvas;
    if (this.#camera.scale < 0.6) this.zoom(0.9 / this.#camera.scale);
    const { x, y, scale } = this.#camera;
    const [left, top] = [x + box.x * scale, y + box.y * scale];
    const right = left + box.width * scale;
    const bottom = top + Math.min(box.height, 60) * scale;
    const inside = left >= 8 && top >= 30 && right <= clientWidth - 8 && bottom <= clientHeight - 8;
    if (!inside) this.#moveBy(clientWidth / 2 - (left + right) / 2, clientHeight / 2 - (top + bottom) / 2);
    this.draw();
  }

  /** The box that an arrow key leads to from the selected one. */
  step(key: string): BoxId | undefined {
    const { selection, network, open } = this.#state;
    const from = selection?.side === this.side ? network.visibleBox(this.side, selection.id, open) : undefined;
    const box = from === undefined ? undefined : this.#boxes.get(from);
    if (from === undefined || !box) return this.scene.boxes.find(({ frame }) => !frame)?.id;
    if (key === 'ArrowDown' || key === 'ArrowUp') {
      const ends = network.neighbours(this.side, from, key === 'ArrowDown' ? 'out' : 'in');
      const ids = new Set(ends.map((item) => network.visibleBox(this.side, item, open)));
      return nearest(
        [...ids].flatMap((id) => this.#boxes.get(id) ?? []),
        (other) => Math.hypot(middle(other) - middle(box), (other.y - box.y) / 4),
      );
    }
    const right = key === 'ArrowRight';
    const level = this.scene.boxes.filter(
      (other) =>
        !other.frame &&
        other.y < box.y + box.height &&
        other.y + other.height > box.y &&
        (right ? middle(other) > middle(box) : middle(other) < middle(box)),
    );
    return nearest(level, (other) => Math.abs(middle(other) - middle(box)));
  }

  #moveBy(dx: number, dy: number): void {
    this.#camera = { ...this.#camera, x: this.#camera.x + dx, y: this.#camera.y + dy };
    this.#moved = true;
    this.draw();
  }

  #resized(): void {
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    if (!this.#moved) this.fit();
    this.draw();
  }

  #hit(event: MouseEvent): SceneBox | undefined {
    const bounds = this.canvas.getBoundingClientRect();
    const x = (event.clientX - bounds.left - this.#camera.x) / this.#camera.scale;
    const y = (event.clientY - bounds.top - this.#camera.y) / this.#camera.scale;
    return this.scene.boxes.findLast(
      (box) => x >= box.x && y >= box.y && x <= box.x + box.width && y <= box.y + box.height,
    );
  }

  #listen(): void {
    const { canvas } = this;
    canvas.addEventListener(
      'wheel',
      (event) => {
        event.preventDefault();
        const bounds = canvas.getBoundingClientRect();
        if (event.shiftKey) this.#moveBy(-event.deltaY, 0);
        else
          this.zoom(
            Math.exp(-event.deltaY / (event.ctrlKey ? 120 : 420)),
            event.clientX - bounds.left,
            event.clientY - bounds.top,
          );
      },
      { passive: false },
    );
    let travelled = 0;
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      travelled = 0;
    });
    canvas.addEventListener('pointermove', (event) => {
      const last = this.#pointers.get(event.pointerId);
      if (!last) {
        this.#hovered(event);
        return;
      }
      const now = { x: event.clientX, y: event.clientY };
      travelled += Math.hypot(now.x - last.x, now.y - last.y);
      this.#dragged(event.pointerId, last, now);
      this.#pointers.set(event.pointerId, now);
      canvas.classList.toggle('drag', travelled > 4);
    });
    const end = (event: PointerEvent, clicked: boolean): void => {
      if (!this.#pointers.delete(event.pointerId)) return;
      canvas.classList.remove('drag');
      if (!clicked || travelled > 4) return;
      const box = this.#hit(event);
      this.#state.select(box && { side: this.side, id: box.id });
    };
    canvas.addEventListener('pointerup', (event) => end(event, true));
    canvas.addEventListener('pointercancel', (event) => end(event, false));
    canvas.addEventListener('pointerleave', () => {
      if (this.#state.hover) this.#state.set('hover', { hover: undefined });
    });
    canvas.addEventListener('dblclick', (event) => {
      const box = this.#hit(event);
      if (box && box.id < 0) this.#state.toggle(-1 - box.id);
    });
  }

  #dragged(pointer: number, last: { x: number; y: number }, now: { x: number; y: number }): void {
    const other = [...this.#pointers].find(([id]) => id !== pointer)?.[1];
    if (!other) {
      this.#moveBy(now.x - last.x, now.y - last.y);
      return;
    }
    const bounds = this.canvas.getBoundingClientRect();
    const apart = (p: { x: number; y: number }) => Math.max(1, Math.hypot(p.x - other.x, p.y - other.y));
    this.zoom(apart(now) / apart(last), (now.x + other.x) / 2 - bounds.left, (now.y + other.y) / 2 - bounds.top);
  }

  #hovered(event: PointerEvent): void {
    const box = this.#hit(event);
    this.canvas.classList.toggle('over', box !== undefined);
    const { hover } = this.#state;
    if (hover?.id === box?.id && (hover === undefined || hover.side === this.side)) return;
    this.#state.set('hover', { hover: box && { side: this.side, id: box.id } });
  }
}

/** What is linked to a selection, as boxes that can be seen on `side`. */
export function linkedBoxes(state: State, side: SideName, of: State['selection']): readonly BoxId[] {
  if (!of || of.side === side) return [];
  const { network, open } = state;
  if (of.id < 0 && network.itemsIn(side, of.id).length > 0) return [network.visibleBox(side, of.id, open)];
  const items = network.itemsIn(otherSide(side), of.id).flatMap((item) => network.counterparts(otherSide(side), item));
  return [...new Set(items)].map((item) => network.visibleBox(side, item, open));
}

const middle = (box: SceneBox): number => box.x + box.width / 2;

function nearest(boxes: readonly SceneBox[], distance: (box: SceneBox) => number): BoxId | undefined {
  let best: SceneBox | undefined;
  for (const box of boxes) if (!best || distance(box) < distance(best)) best = box;
  return best?.id;
}

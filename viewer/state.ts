/** What the user has chosen, in one place; whoever shows it is told of each change. */
import { firstOpen } from '../src/view/first-open.ts';
import type { BoxId } from '../src/view/scene.ts';
import type { Metric, Network, SideName } from './network.ts';

export type ColourBy = 'kind' | 'precision' | Metric;
export interface Selection {
  readonly side: SideName;
  readonly id: BoxId;
}

/** `layout`: other blocks are open. `selection`, `hover`, `look`: only what is drawn changes. */
export type Change = 'layout' | 'selection' | 'hover' | 'look';

export class State {
  readonly network: Network;
  open: ReadonlySet<number>;
  selection: Selection | undefined;
  hover: Selection | undefined;
  colourBy: ColourBy = 'kind';
  shown: readonly SideName[];
  readonly #listeners: ((change: Change) => void)[] = [];

  constructor(network: Network) {
    this.network = network;
    this.shown = network.sides;
    this.open = firstOpen(network.model, network.sides[0]);
  }

  onChange(listener: (change: Change) => void): void {
    this.#listeners.push(listener);
  }
  set(change: Change, fields: Partial<Pick<State, 'open' | 'selection' | 'hover' | 'colourBy' | 'shown'>>): void {
    Object.assign(this, fields);
    for (const listener of this.#listeners) listener(change);
  }

  toggle(group: number): void {
    const open = new Set(this.open);
    if (!open.delete(group)) open.add(group);
    this.set('layout', { open });
  }
  openAll(): void {
    this.set('layout', { open: new Set(this.network.model.groups.keys()) });
  }
  closeAll(): void {
    this.set('layout', { open: new Set() });
  }

  /** Selects, and opens the blocks around so that it can be seen. */
  select(selection: Selection | undefined): void {
    if (selection) {
      const around = this.network.blocksAround(selection.side, selection.id).filter((group) => !this.open.has(group));
      if (around.length > 0) this.set('layout', { open: new Set([...this.open, ...around]) });
      if (!this.shown.includes(selection.side)) this.set('look', { shown: [selection.side] });
    }
    this.set('selection', { selection });
  }
}

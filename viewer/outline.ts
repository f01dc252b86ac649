/**
 * The graph as a list: blocks and nodes in the order they run, as a tree that keyboards and screen readers know. Children are made when
 * a block is opened, and long lists in portions.
 */
import type { BoxId } from '../src/view/scene.ts';
import { el } from './dom.ts';
import type { SideName } from './network.ts';
import type { State } from './state.ts';

const PORTION = 300;

export class Outline {
  readonly #root: HTMLElement;
  readonly #state: State;
  #built = false;

  constructor(root: HTMLElement, state: State) {
    this.#root = root;
    this.#state = state;
    root.addEventListener('keydown', (event) => this.#key(event));
    root.addEventListener('click', (event) => this.#click(event));
  }

  /** Shown or hidden; built when first shown. */
  show(visible: boolean): void {
    this.#root.hidden = !visible;
    if (!visible) return;
    if (!this.#built) this.#build();
    this.mark();
    (this.#root.querySelector('[role=treeitem][tabindex="0"]') as HTMLElement | null)?.focus();
  }

  /** Marks what is selected, opening the way to it. */
  mark(): void {
    if (this.#root.hidden || !this.#built) return;
    for (const row of this.#root.querySelectorAll('[aria-selected="true"]')) row.setAttribute('aria-selected', 'false');
    const { selection, network } = this.#state;
    if (!selection) return;
    for (const group of network.blocksAround(selection.side, selection.id).toReversed()) {
      const row = this.#find(selection.side, -1 - group);
      if (row) this.#expand(row, true);
    }
    const row = this.#find(selection.side, selection.id);
    if (!row) return;
    row.setAttribute('aria-selected', 'true');
    this.#focusable(row);
    row.scrollIntoView({ block: 'nearest' });
  }

  #find(side: SideName, id: BoxId): HTMLElement | null {
    return this.#root.querySelector(`[data-side="${side}"][data-id="${id}"]`);
  }

  #build(): void {
    this.#built = true;
    const { network } = this.#state;
    for (const side of network.sides) {
      const title = side === 'graph' ? 'Nodes of the model' : 'Steps of the engine';
      this.#root.append(el('h3', {}, title));
      const tree = el('ul', { role: 'tree', 'aria-label': title });
      this.#fill(tree, side, -1, 1, 0);
      this.#root.append(tree);
    }
    this.#root.querySelector('[role=treeitem]')?.setAttribute('tabindex', '0');
  }

  /** Children of a block by their first node, from `start` on. */
  #fill(list: HTMLElement, side: SideName, group: number, level: number, start: number): void {
    const { network } = this.#state;
    const first = new Map<BoxId, number>();
    for (const [i, item] of network.side(side).items.entries()) if (item.group === group) first.set(i, i);
    for (const [g, { parent }] of network.model.groups.entries()) {
      const items = parent === group ? network.itemsIn(side, -1 - g) : [];
      if (items.length > 0) first.set(-1 - g, items[items.length >> 1]);
    }
    const ids = [...first.keys()].sort((a, b) => (first.get(a) as number) - (first.get(b) as number));
    for (const id of ids.slice(start, start + PORTION)) list.append(this.#row(side, id, level));
    if (ids.length <= start + PORTION) return;
    const more = el(
      'li',
      { role: 'treeitem', tabindex: -1, 'aria-level': level },
      el('div', { class: 'row' }, `${ids.length - start - PORTION} more …`),
    );
    more.addEventListener('click', (event) => {
      event.stopPropagation();
      more.remove();
      this.#fill(list, side, group, level, start + PORTION);
    });
    list.append(more);
  }

  #row(side: SideName, id: BoxId, level: number): HTMLElement {
    const { network } = this.#state;
    const item = network.item(side, id);
    const types = item?.outputs.map(({ type }) => type).join(' ') ?? '';
    const label = item
      ? `${item.title} ${item.name}${types === '' ? '' : `, gives ${types}`}`
      : `block ${network.label(side, id)}, ${network.itemsIn(side, id).length} inside`;
    const attributes = {
      role: 'treeitem',
      tabindex: -1,
      'aria-level': level,
      'aria-selected': 'false',
      'aria-label': label,
      'data-side': side,
      'data-id': id,
    };
    const twist = el('span', { class: 'twist', 'aria-hidden': 'true' }, id < 0 ? '▸' : '');
    const text = item ? [item.title, el('span', {}, item.name)] : [network.label(side, id)];
    return el(
      'li',
      id < 0 ? { ...attributes, 'aria-expanded': 'false' } : attributes,
      el('div', { class: 'row' }, twist, ...text),
    );
  }

  #expand(row: HTMLElement, open: boolean): void {
    if (!row.hasAttribute('aria-expanded') || (row.getAttribute('aria-expanded') === 'true') === open) return;
    row.setAttribute('aria-expanded', String(open));
    (row.querySelector('.twist') as HTMLElement).textContent = open ? '▾' : '▸';
    if (!open) row.querySelector(':scope > [role=group]')?.remove();
    else {
      const list = el('ul', { role: 'group' });
      row.append(list);
      this.#fill(
        list,
        row.dataset.side as SideName,
        -1 - Number(row.dataset.id),
        Number(row.getAttribute('aria-level')) + 1,
        0,
      );
    }
  }

  #focusable(row: HTMLElement): void {
    for (const other of this.#root.querySelectorAll('[tabindex="0"]')) other.setAttribute('tabindex', '-1');
    row.setAttribute('tabindex', '0');
  }

  #click(event: Event): void {
    const row = (event.target as HTMLElement).closest<HTMLElement>('[role=treeitem]');
    if (row) this.#choose(row);
  }

  #choose(row: HTMLElement): void {
    if (row.dataset.id === undefined) {
      row.click();
      return;
    }
    if (row.hasAttribute('aria-expanded')) this.#expand(row, row.getAttribute('aria-expanded') !== 'true');
    this.#state.select({ side: row.dataset.side as SideName, id: Number(row.dataset.id) });
    this.#focusable(row);
    row.focus();
  }

  /** The keys of a tree view, as the ARIA practices have them. */
  #key(event: KeyboardEvent): void {
    const row = (event.target as HTMLElement).closest<HTMLElement>('[role=treeitem]');
    if (!row) return;
    const rows = [...this.#root.querySelectorAll<HTMLElement>('[role=treeitem]')];
    const at = rows.indexOf(row);
    const expanded = row.getAttribute('aria-expanded');
    let target: HTMLElement | null | undefined;
    if (event.key === 'ArrowDown') target = rows[at + 1];
    else if (event.key === 'ArrowUp') target = rows[at - 1];
    else if (event.key === 'Home') target = rows[0];
    else if (event.key === 'End') target = rows.at(-1);
    else if (event.key === 'ArrowRight' && expanded === 'false') this.#expand(row, true);
    else if (event.key === 'ArrowRight' && expanded === 'true') target = rows[at + 1];
    else if (event.key === 'ArrowLeft' && expanded === 'true') this.#expand(row, false);
    else if (event.key === 'ArrowLeft') target = row.parentElement?.closest<HTMLElement>('[role=treeitem]');
    else if (event.key === 'Enter' || event.key === ' ') this.#choose(row);
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (!target) return;
    this.#focusable(target);
    target.focus();
  }
}

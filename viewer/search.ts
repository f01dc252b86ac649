/** Search over nodes, steps and blocks: a combobox with a list of what was found. */
import type { BoxId } from '../src/view/scene.ts';
import { byId, el } from './dom.ts';
import type { Network, SideName } from './network.ts';
import type { State } from './state.ts';

interface Found {
  readonly side: SideName;
  readonly id: BoxId;
  readonly tag: string;
  readonly title: string;
  readonly name: string;
}

const MOST_RESULTS = 50;

export function startSearch(state: State, chosen: (found: { side: SideName; id: BoxId }) => void): void {
  const input = byId<HTMLInputElement>('search');
  const list = byId('results');
  let found: readonly Found[] = [];
  let at = 0;

  const close = (): void => {
    list.hidden = true;
    input.setAttribute('aria-expanded', 'false');
    input.removeAttribute('aria-activedescendant');
  };
  const mark = (): void => {
    for (const [i, row] of [...list.querySelectorAll('[role=option]')].entries()) {
      row.setAttribute('aria-selected', String(i === at));
      if (i === at) row.scrollIntoView({ block: 'nearest' });
    }
    if (found.length > 0) input.setAttribute('aria-activedescendant', `found-${at}`);
    else input.removeAttribute('aria-activedescendant');
  };
  const choose = (i: number): void => {
    const result = found[i];
    if (!result) return;
    close();
    chosen(result);
  };
  const update = (): void => {
    const all = search(state.network, input.value);
    found = all.slice(0, MOST_RESULTS);
    at = 0;
    const rows = found.map(({ tag, title, name }, i) => {
      const row = el(
        'li',
        { role: 'option', id: `found-${i}` },
        el('span', { class: 'tag' }, tag),
        el('span', {}, title),
        el('small', {}, el('bdi', {}, name)),
      );
      row.addEventListener('pointerdown', (event) => {
        event.preventDefault();
        choose(i);
      });
      return row;
    });
    const note =
      all.length === 0
        ? 'Nothing found'
        : all.length > found.length
          ? `${all.length - found.length} more: say more of the name`
          : undefined;
    list.replaceChildren(...rows, ...(note ? [el('li', { class: 'note' }, note)] : []));
    list.hidden = input.value.trim() === '';
    input.setAttribute('aria-expanded', String(!list.hidden));
    mark();
  };

  input.addEventListener('input', update);
  input.addEventListener('focus', () => input.value !== '' && update());
  input.addEventListener('blur', close);
  input.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      at = Math.max(0, Math.min(found.length - 1, at + (event.key === 'ArrowDown' ? 1 : -1)));
      mark();
    } else if (event.key === 'Enter') choose(at);
    else if (event.key === 'Escape') {
      input.value = '';
      close();
      input.blur();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

/** Every word must be in the title, the name or an output's name; what begins with it comes first. */
export function search(network: Network, text: string): readonly Found[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return [];
  const ranked: { found: Found; rank: number }[] = [];
  const add = (found: Found, more: string): void => {
    const hay = `${found.title} ${found.name} ${more}`.toLowerCase();
    if (!words.every((word) => hay.includes(word))) return;
    const starts = found.title.toLowerCase().startsWith(words[0]) || found.name.toLowerCase().startsWith(words[0]);
    ranked.push({ found, rank: (starts ? 0 : 2) + (found.id < 0 ? 0 : 1) });
  };
  const [first] = network.sides;
  for (const [g, { label }] of network.model.groups.entries()) {
    const items = first ? network.itemsIn(first, -1 - g).length : 0;
    if (first && items > 0) add({ side: first, id: -1 - g, tag: 'block', title: label, name: `${items} inside` }, '');
  }
  for (const side of network.sides) {
    for (const [id, { title, name, outputs }] of network.side(side).items.entries()) {
      add(
        { side, id, tag: side === 'engine' ? 'step' : 'node', title, name },
        outputs.map((output) => output.name).join(' '),
      );
    }
  }
  return ranked.sort((a, b) => a.rank - b.rank).map(({ found }) => found);
}

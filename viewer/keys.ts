/** The keys of the page, wherever no text is being written. */
import { byId } from './dom.ts';
import { otherSide, type SideName } from './network.ts';
import { linkedBoxes, type Pane } from './pane.ts';
import type { State } from './state.ts';

export function startKeys(state: State, panes: ReadonlyMap<SideName, Pane>): void {
  const { network } = state;
  const focused = (): Pane => {
    const active = [...panes.values()].find(({ canvas }) => canvas === document.activeElement);
    return (active ?? panes.get(state.selection?.side ?? state.shown[0]) ?? [...panes.values()][0]) as Pane;
  };
  const shown = () => state.selection && network.visibleBox(state.selection.side, state.selection.id, state.open);

  const enter = (): void => {
    const id = shown();
    if (id !== undefined && id < 0) state.toggle(-1 - id);
  };
  /** Closes the innermost open block around the selection, and selects it. */
  const leave = (): void => {
    const { selection } = state;
    if (!selection) return;
    const { side, id } = selection;
    const group =
      id < 0 && state.open.has(-1 - id) ? -1 - id : network.blocksAround(side, id).find((g) => state.open.has(g));
    if (group === undefined) return;
    state.set('selection', { selection: { side, id: -1 - group } });
    state.toggle(group);
  };
  const across = (): void => {
    const { selection } = state;
    if (!selection) return;
    const side = otherSide(selection.side);
    if (!network.sides.includes(side)) return;
    const [id] = linkedBoxes(state, side, selection);
    if (id === undefined) return;
    state.select({ side, id });
    panes.get(side)?.canvas.focus();
  };
  const walk = (key: string): void => {
    const pane = focused();
    const id = pane.step(key);
    if (id !== undefined) state.select({ side: pane.side, id });
  };

  const keys: Readonly<Record<string, () => void>> = {
    ArrowDown: () => walk('ArrowDown'),
    ArrowUp: () => walk('ArrowUp'),
    ArrowLeft: () => walk('ArrowLeft'),
    ArrowRight: () => walk('ArrowRight'),
    Enter: enter,
    Backspace: leave,
    o: across,
    '/': () => byId('search').focus(),
    '?': () => byId('help').click(),
    l: () => byId('list').click(),
    e: () => state.openAll(),
    c: () => state.closeAll(),
    t: () => byId('theme').click(),
    '+': () => focused().zoom(1.25),
    '=': () => focused().zoom(1.25),
    '-': () => focused().zoom(0.8),
    '0': () => focused().fit(true),
    Escape: () => state.select(undefined),
  };
  document.addEventListener('keydown', (event) => {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || target.matches('input, select, textarea, dialog *')) return;
    // Buttons keep the keys that press them.
    if (event.key === 'Enter' && target.matches('button, a')) return;
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

/**
 * The viewer's page: reads the model that stands in it, and joins the panes, the panel, the list, the search and the keys to one state.
 */
import type { PageModel } from '../src/view/page.ts';
import type { BoxId } from '../src/view/scene.ts';
import { isMetric, NAMES, palette, ramp, readTheme, type Theme } from './colours.ts';
import { hashOfSelection, selectionOfHash } from './deep-link.ts';
import { byId, el } from './dom.ts';
import { startKeys } from './keys.ts';
import { Layouts } from './layouts.ts';
import { METRICS, type Metric, Network, type SideName } from './network.ts';
import { Outline } from './outline.ts';
import { linkedBoxes, Pane } from './pane.ts';
import { showPanel } from './panel.ts';
import { startSearch } from './search.ts';
import { type ColourBy, type Selection, State } from './state.ts';

const model = JSON.parse(byId('model').textContent ?? '') as PageModel;
const network = new Network(model);
const state = new State(network);
const layouts = new Layouts(model, byId('layout-worker').textContent ?? '');
const panes = new Map(network.sides.map((side) => [side, new Pane(side, state, layouts)]));
const outline = new Outline(byId('outline'), state);
let theme: Theme;

document.title = `${model.name} · Hotrod`;
byId('name').textContent = model.name;
for (const pane of panes.values()) byId('panes').append(pane.root);

function show(): void {
  const boxes = new Map(
    [...panes].map(([side, { scene }]) => [side, scene.boxes.flatMap(({ id, frame }) => (frame ? [] : [id]))]),
  );
  const colours = palette(network, state.colourBy, theme, boxes);
  for (const [side, pane] of panes) {
    const own = (choice: Selection | undefined): BoxId | undefined =>
      choice?.side === side ? network.visibleBox(side, choice.id, state.open) : undefined;
    const linked = new Set([...linkedBoxes(state, side, state.selection), ...linkedBoxes(state, side, state.hover)]);
    pane.show({
      theme,
      fill: colours.fill,
      selected: own(state.selection),
      hovered: own(state.hover),
      linked,
      focused: document.activeElement === pane.canvas,
    });
  }
  showLegend(colours);
}

function showLegend({ legend, most }: ReturnType<typeof palette>): void {
  const chips = legend.map(({ text, colour }) =>
    el('span', { class: 'chip' }, el('i', { style: `background:${colour}` }), text),
  );
  const colours = [0, 0.25, 0.5, 0.75, 1].map((x) => ramp(x, theme.dark));
  const scale =
    most === undefined
      ? []
      : [
          el('span', {}, `${NAMES[state.colourBy]}: 0`),
          el('span', { class: 'ramp', style: `background:linear-gradient(90deg,${colours.join()})` }),
          el('span', {}, most),
        ];
  byId('legend').replaceChildren(...chips, ...scale);
}

/** Which panes stand on the page; narrow pages have room for one. */
function showPanes(): void {
  for (const [side, pane] of panes) pane.root.hidden = !state.shown.includes(side);
  byId<HTMLSelectElement>('show').value = state.shown.length > 1 ? 'both' : state.shown[0];
}

async function relayout(): Promise<void> {
  const kept = state.selection;
  await Promise.all(
    [...panes].map(([side, pane]) =>
      pane.relayout(kept?.side === side ? network.visibleBox(side, kept.id, state.open) : undefined),
    ),
  );
  show();
}

let pending = Promise.resolve();
state.onChange((change) => {
  if (change === 'layout') pending = relayout();
  if (change === 'look') showPanes();
  if (change === 'selection' || change === 'layout') {
    showPanel(byId('panel'), state);
    void pending.then(announce);
  }
  show();
});

/** Brings the selection and what belongs to it into sight, says it, and writes it into the address. */
function announce(): void {
  const { selection } = state;
  outline.mark();
  const hash = selection ? hashOfSelection(network, selection) : '';
  if (decodeURIComponent(location.hash) !== decodeURIComponent(hash))
    history.replaceState(null, '', hash || location.href.split('#')[0]);
  if (!selection) return;
  for (const [side, pane] of panes) {
    const id =
      side === selection.side
        ? network.visibleBox(side, selection.id, state.open)
        : linkedBoxes(state, side, selection)[0];
    if (id !== undefined) pane.reveal(id);
  }
  byId('live').textContent = describe(selection);
}

function describe({ side, id }: Selection): string {
  const item = network.item(side, id);
  if (!item)
    return `Block ${network.label(side, id)}, ${network.itemsIn(side, id).length} inside, ${state.open.has(-1 - id) ? 'open' : 'closed'}`;
  const types = item.outputs.map(({ type }) => type).join(', ');
  const links = network.counterparts(side, id).length;
  const [reads, readers] = [network.neighbours(side, id, 'in').length, network.neighbours(side, id, 'out').length];
  return [
    `${item.title} ${item.name}`,
    types && `gives ${types}`,
    `reads ${reads}, read by ${readers}`,
    links > 0 && `${links} linked in the other graph`,
  ]
    .filter(Boolean)
    .join(', ');
}

function setTheme(dark: boolean): void {
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  theme = readTheme();
}

function startTheme(): void {
  const system = matchMedia('(prefers-color-scheme: dark)');
  let chosen: string | null = null;
  // Pages opened from a file may be refused storage.
  try {
    chosen = localStorage.getItem('hotrod-theme');
  } catch {}
  setTheme(chosen === null ? system.matches : chosen === 'dark');
  system.addEventListener('change', ({ matches }) => {
    if (chosen !== null) return;
    setTheme(matches);
    show();
  });
  byId('theme').addEventListener('click', () => {
    chosen = theme.dark ? 'light' : 'dark';
    try {
      localStorage.setItem('hotrod-theme', chosen);
    } catch {}
    setTheme(chosen === 'dark');
    show();
  });
}

function startTools(): void {
  const colour = byId<HTMLSelectElement>('colour');
  const known = (metric: Metric) => network.total(metric) > 0;
  for (const by of ['kind', ...METRICS, 'precision'] as const) {
    const option = el(
      'option',
      { value: by, disabled: isMetric(by) && !known(by) },
      `${NAMES[by]}${by === 'ms' && !known('ms') ? ' (needs --profile)' : ''}`,
    );
    colour.append(option);
  }
  if (known('ms')) state.colourBy = 'ms';
  colour.value = state.colourBy;
  colour.addEventListener('change', () => state.set('look', { colourBy: colour.value as ColourBy }));

  const select = byId<HTMLSelectElement>('show');
  const names: Readonly<Record<SideName, string>> = { graph: 'Model', engine: 'Engine' };
  if (network.sides.length > 1) select.append(el('option', { value: 'both' }, 'Both'));
  for (const side of network.sides) select.append(el('option', { value: side }, names[side]));
  select.addEventListener('change', () => {
    state.set('look', { shown: select.value === 'both' ? network.sides : [select.value as SideName] });
  });
  if (innerWidth < 760) state.shown = network.sides.slice(0, 1);

  byId('open').addEventListener('click', () => state.openAll());
  byId('close').addEventListener('click', () => state.closeAll());
  byId('fit').addEventListener('click', () => {
    for (const pane of panes.values()) pane.fit(true);
  });
  byId('help').addEventListener('click', () => byId<HTMLDialogElement>('keys').showModal());
  byId('list').addEventListener('click', ({ currentTarget }) => {
    const button = currentTarget as HTMLElement;
    const pressed = button.getAttribute('aria-pressed') !== 'true';
    button.setAttribute('aria-pressed', String(pressed));
    outline.show(pressed);
  });
}

function followHash(): void {
  const selection = selectionOfHash(network, location.hash);
  if (selection) state.select(selection);
}

startTheme();
startTools();
startSearch(state, ({ side, id }) => {
  state.select({ side, id });
  panes.get(side)?.canvas.focus();
});
startKeys(state, panes);
showPanes();
showPanel(byId('panel'), state);
await relayout();
followHash();
addEventListener('hashchange', followHash);
// Tests and people with a console wait for this.
performance.mark('hotrod-first-picture');
document.documentElement.dataset.ready = 'true';

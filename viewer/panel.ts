/** The details of what is selected: attributes, values, weights with their histograms, costs, and what belongs to it on the other side. */
import type { Fact, PageValue } from '../src/view/page.ts';
import type { WeightSummary } from '../src/view/weight-summary.ts';
import { costText, NAMES } from './colours.ts';
import { el, svg } from './dom.ts';
import { METRICS, otherSide, type SideName } from './network.ts';
import type { Selection, State } from './state.ts';

/** Links shown of one list. */
const MOST_LINKS = 40;

export function showPanel(panel: HTMLElement, state: State): void {
  const { selection } = state;
  panel.classList.toggle('idle', selection === undefined);
  panel.replaceChildren(...(selection ? details(state, selection) : overview(state)));
  panel.scrollTop = 0;
}

function overview({ network }: State): Node[] {
  const { name, facts, timing, engine, graph } = network.model;
  return [
    el('h2', {}, name),
    el('p', { class: 'path' }, 'Select a node, a block or a step to see what is in it.'),
    ...section('Network', factList(facts)),
    ...(timing ? [el('h3', {}, 'Times'), el('p', {}, timing)] : []),
    ...(engine && graph ? unfused(network.model.links, graph.items.length) : []),
  ];
}

function unfused(links: readonly (readonly number[])[], items: number): Node[] {
  const computed = new Set(links.flat()).size;
  return [
    el('h3', {}, 'Fusion'),
    el(
      'p',
      {},
      `${links.filter((nodes) => nodes.length > 0).length} steps compute ${computed} of ${items} nodes and ends; the rest was folded, merged or removed when the engine was built.`,
    ),
  ];
}

function details(state: State, selection: Selection): Node[] {
  const { network } = state;
  const { side, id } = selection;
  const item = network.item(side, id);
  const dismiss = el('button', { type: 'button', class: 'dismiss', 'aria-label': 'Select nothing' }, '✕');
  dismiss.addEventListener('click', () => state.select(undefined));
  const blocks = network.blocksAround(side, id).toReversed();
  const nodes: Node[] = [
    dismiss,
    el('h2', {}, item ? item.title : network.model.groups[-1 - id].label),
    el(
      'p',
      { class: 'path' },
      item ? item.name : `block of ${network.itemsIn(side, id).length} ${side === 'engine' ? 'steps' : 'nodes'}`,
    ),
  ];
  if (id < 0) {
    const toggle = el('button', { type: 'button' }, state.open.has(-1 - id) ? 'Close this block' : 'Open this block');
    toggle.addEventListener('click', () => state.toggle(-1 - id));
    nodes.push(el('p', {}, toggle));
  }
  nodes.push(...costs(state, selection));
  if (item) {
    nodes.push(
      ...section(side === 'engine' ? 'Kernel' : 'Attributes', item.facts.length > 0 ? factList(item.facts) : undefined),
    );
    nodes.push(...section('Inputs', valueList(item.inputs)), ...section('Outputs', valueList(item.outputs)));
  } else nodes.push(...section('Operators', factList(operatorCounts(state, selection))));
  nodes.push(...counterparts(state, selection));
  nodes.push(...section('Reads from', linkList(state, side, network.neighbours(side, id, 'in'))));
  nodes.push(...section('Read by', linkList(state, side, network.neighbours(side, id, 'out'))));
  nodes.push(
    ...section(
      'Inside',
      linkList(
        state,
        side,
        blocks.map((group) => -1 - group),
      ),
    ),
  );
  return nodes;
}

const section = (title: string, content: Node | undefined): Node[] => (content ? [el('h3', {}, title), content] : []);

function factList(facts: readonly Fact[]): HTMLElement | undefined {
  if (facts.length === 0) return undefined;
  return el('dl', {}, ...facts.flatMap(([name, text]) => [el('dt', {}, name), el('dd', {}, text)]));
}

function costs({ network }: State, { side, id }: Selection): Node[] {
  const rows = METRICS.flatMap((metric): Node[] => {
    const cost = network.cost(side, id, metric);
    if (cost === undefined) return [];
    const share = network.total(metric) > 0 ? cost / network.total(metric) : 0;
    const bar = el('div', { class: 'bar' }, el('i', { style: `width:${(100 * share).toFixed(1)}%` }));
    return [el('dt', {}, NAMES[metric]), el('dd', {}, `${costText(metric, cost)}, ${(100 * share).toFixed(1)} %`, bar)];
  });
  const ms = network.cost(side, id, 'ms');
  const flops = network.cost(side, id, 'flops');
  if (ms && flops) rows.push(el('dt', {}, 'speed'), el('dd', {}, `${(flops / ms / 1e6).toPrecision(3)} GFLOP/s`));
  if (rows.length === 0) return [];
  const whose = side === 'graph' ? 'Cost of its steps' : 'Cost';
  return [el('h3', {}, whose), el('dl', {}, ...rows)];
}

function operatorCounts({ network }: State, { side, id }: Selection): readonly Fact[] {
  const counts = new Map<string, number>();
  for (const item of network.itemsIn(side, id)) {
    const { title } = network.side(side).items[item];
    counts.set(title, (counts.get(title) ?? 0) + 1);
  }
  return [...counts].sort(([, a], [, b]) => b - a).map(([name, n]): Fact => [name, String(n)]);
}

function counterparts(state: State, { side, id }: Selection): Node[] {
  if (id < 0 || state.network.sides.length < 2) return [];
  const other = otherSide(side);
  const items = state.network.counterparts(side, id);
  const title =
    other === 'engine' ? 'Computed by' : `Fused from ${items.length} ${items.length === 1 ? 'node' : 'nodes'}`;
  const list = linkList(state, other, items);
  if (list) return section(title, list);
  const { kind } = state.network.side(side).items[id];
  if (kind === 'end') return [];
  const text =
    side === 'graph'
      ? 'No step: it was folded into a constant, merged with others or removed when the engine was built.'
      : 'The compiler made it; no node of the model stands for it.';
  return section(other === 'engine' ? 'Computed by' : 'Fused from', el('p', {}, text));
}

function linkList(state: State, side: SideName, ids: readonly number[]): HTMLElement | undefined {
  if (ids.length === 0) return undefined;
  const links = ids.slice(0, MOST_LINKS).map((id) => {
    const item = state.network.item(side, id);
    const button = el(
      'button',
      { type: 'button', class: 'link' },
      item ? item.title : state.network.label(side, id),
      item && item.name !== '' ? el('small', {}, item.name) : undefined,
    );
    button.addEventListener('click', () => state.select({ side, id }));
    return el('li', {}, button);
  });
  const more = ids.length > MOST_LINKS ? [el('li', {}, `and ${ids.length - MOST_LINKS} more`)] : [];
  return el('ul', {}, ...links, ...more);
}

function valueList(values: readonly PageValue[]): HTMLElement | undefined {
  if (values.length === 0) return undefined;
  return el(
    'ul',
    {},
    ...values.map(({ name, type, weight }) =>
      el(
        'li',
        {},
        el('span', { class: 'value' }, name),
        ' ',
        el('span', { class: 'type' }, type),
        weight ? weightCard(name, weight) : undefined,
      ),
    ),
  );
}

function weightCard(name: string, weight: WeightSummary): HTMLElement {
  const { min, max, mean, std, zeros, nonFinite, elements, histogram } = weight;
  const number = (x: number) => (Number.isInteger(x) && Math.abs(x) < 1e6 ? String(x) : x.toPrecision(4));
  const parts = [`mean ${number(mean)}`, `std ${number(std)}`];
  if (zeros > 0) parts.push(`${((100 * zeros) / elements).toPrecision(3)} % zero`);
  if (nonFinite > 0) parts.push(`${nonFinite} not finite`);
  const most = Math.max(...histogram);
  const bars = histogram.map((n, i) => {
    const height = n === 0 ? 0 : Math.max(0.6, (46 * n) / most);
    return svg('rect', { x: i * 10 + 0.5, y: 48 - height, width: 9, height });
  });
  const label = `Histogram of ${name}: from ${number(min)} to ${number(max)}, ${parts.join(', ')}`;
  const ends = el('div', { class: 'ends' }, el('span', {}, number(min)), el('span', {}, number(max)));
  const chart = svg(
    'svg',
    { viewBox: `0 0 ${histogram.length * 10} 48`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
    ...bars,
  );
  return el(
    'div',
    { class: 'weight' },
    el('div', { class: 'stats' }, histogram.length === 0 ? `all ${number(min)}` : parts.join(' · ')),
    histogram.length > 0 ? chart : undefined,
    histogram.length > 0 ? ends : undefined,
  );
}

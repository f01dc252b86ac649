/**
 * Questions to the page's model: what lies in a block, what belongs to what on the other side, what a box costs.
 */
import type { PageEdge, PageItem, PageModel, PageSide } from '../src/view/page.ts';
import type { BoxId } from '../src/view/scene.ts';

export type SideName = 'graph' | 'engine';
export const otherSide = (side: SideName): SideName => (side === 'graph' ? 'engine' : 'graph');

export const METRICS = ['ms', 'flops', 'bytes'] as const;
export type Metric = (typeof METRICS)[number];

export class Network {
  readonly model: PageModel;
  readonly sides: readonly SideName[];
  readonly #under = new Map<string, readonly number[]>();
  readonly #stepsOf: readonly (readonly number[])[];
  readonly #out: Readonly<Record<SideName, readonly (readonly PageEdge[])[]>>;
  readonly #in: Readonly<Record<SideName, readonly (readonly PageEdge[])[]>>;

  constructor(model: PageModel) {
    this.model = model;
    this.sides = (['graph', 'engine'] as const).filter((side) => model[side] !== undefined);
    const steps: number[][] = (model.graph?.items ?? []).map(() => []);
    for (const [step, nodes] of model.links.entries()) for (const node of nodes) steps[node]?.push(step);
    this.#stepsOf = steps;
    this.#out = { graph: edgesBy(model.graph, 'from'), engine: edgesBy(model.engine, 'from') };
    this.#in = { graph: edgesBy(model.graph, 'to'), engine: edgesBy(model.engine, 'to') };
  }

  side(name: SideName): PageSide {
    return this.model[name] as PageSide;
  }
  item(side: SideName, id: BoxId): PageItem | undefined {
    return id >= 0 ? this.model[side]?.items[id] : undefined;
  }
  label(side: SideName, id: BoxId): string {
    return id < 0
      ? this.model.groups[-1 - id].label
      : `${this.side(side).items[id].title} ${this.side(side).items[id].name}`;
  }

  /** Items in a box: itself, or all that the block holds. */
  itemsIn(side: SideName, id: BoxId): readonly number[] {
    if (id >= 0) return [id];
    const key = `${side}${id}`;
    const known = this.#under.get(key);
    if (known) return known;
    const inside = new Set([-1 - id]);
    for (const [g, { parent }] of this.model.groups.entries()) if (inside.has(parent)) inside.add(g);
    const items = this.side(side).items.flatMap(({ group }, i) => (inside.has(group) ? [i] : []));
    this.#under.set(key, items);
    return items;
  }

  /** What an item is on the other side: the nodes that a step computes, the steps that compute a node. */
  counterparts(side: SideName, item: number): readonly number[] {
    return (side === 'engine' ? this.model.links[item] : this.#stepsOf[item]) ?? [];
  }

  neighbours(side: SideName, id: BoxId, direction: 'in' | 'out'): readonly number[] {
    const inside = new Set(this.itemsIn(side, id));
    const edges = (direction === 'out' ? this.#out : this.#in)[side];
    const ends = [...inside].flatMap((item) =>
      (edges[item] ?? []).map(({ from, to }) => (direction === 'out' ? to : from)),
    );
    return [...new Set(ends)].filter((item) => !inside.has(item));
  }

  /** The blocks around an item or block, innermost first, without itself. */
  blocksAround(side: SideName, id: BoxId): readonly number[] {
    const chain: number[] = [];
    let group = id >= 0 ? this.side(side).items[id].group : this.model.groups[-1 - id].parent;
    for (; group >= 0; group = this.model.groups[group].parent) chain.push(group);
    return chain;
  }

  /** The box that shows an item: itself, or the outermost closed block around it. */
  visibleBox(side: SideName, id: BoxId, open: ReadonlySet<number>): BoxId {
    const closed = this.blocksAround(side, id).findLast((group) => !open.has(group));
    return closed === undefined ? id : -1 - closed;
  }

  /** The sum over a box's steps; of nodes, over the steps that compute them, each once. Undefined where nothing is known. */
  cost(side: SideName, id: BoxId, metric: Metric): number | undefined {
    const items = this.itemsIn(side, id);
    const steps = side === 'engine' ? items : new Set(items.flatMap((item) => this.counterparts('graph', item)));
    let sum: number | undefined;
    for (const step of steps) {
      const cost = this.model.engine?.items[step]?.[metric];
      if (cost !== undefined) sum = (sum ?? 0) + cost;
    }
    return sum;
  }

  total(metric: Metric): number {
    return (this.model.engine?.items ?? []).reduce((sum, item) => sum + (item[metric] ?? 0), 0);
  }
}

function edgesBy(side: PageSide | undefined, end: 'from' | 'to'): readonly (readonly PageEdge[])[] {
  const lists: PageEdge[][] = (side?.items ?? []).map(() => []);
  for (const edge of side?.edges ?? []) lists[edge[end]].push(edge);
  return lists;
}

/** Colours of boxes: one a kind or element type, or a ramp of a cost. */
import type { BoxId } from '../src/view/scene.ts';
import { METRICS, type Metric, type Network, type SideName } from './network.ts';
import type { ColourBy } from './state.ts';

export interface Theme {
  readonly dark: boolean;
  readonly ground: string;
  readonly surface: string;
  readonly frame: string;
  readonly line: string;
  readonly text: string;
  readonly muted: string;
  readonly edge: string;
  readonly accent: string;
  readonly linked: string;
}

export function readTheme(): Theme {
  const style = getComputedStyle(document.documentElement);
  const read = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const colours = Object.fromEntries(
    ['ground', 'surface', 'frame', 'line', 'text', 'muted', 'edge', 'accent', 'linked'].map((name) => [
      name,
      read(name),
    ]),
  ) as unknown as Omit<Theme, 'dark'>;
  return { ...colours, dark: document.documentElement.dataset.theme === 'dark' };
}

/** Hues that differ for most kinds of colour blindness, by order of appearance. */
const HUES = [212, 28, 158, 262, 340, 48, 190, 300, 88, 12, 236, 128];

export interface Palette {
  readonly fill: (side: SideName, id: BoxId) => string;
  readonly legend: readonly { readonly text: string; readonly colour: string }[];
  /** Where a cost is shown: the largest, in words. */
  readonly most?: string;
}

export const NAMES: Readonly<Record<ColourBy, string>> = {
  kind: 'kind',
  precision: 'precision',
  ms: 'time',
  flops: 'operations',
  bytes: 'bytes',
};
export const isMetric = (by: ColourBy): by is Metric => (METRICS as readonly string[]).includes(by);

/** `boxes` are those on the screen: a ramp ends at the most costly of them. */
export function palette(
  network: Network,
  by: ColourBy,
  theme: Theme,
  boxes: ReadonlyMap<SideName, readonly BoxId[]>,
): Palette {
  return isMetric(by) ? costPalette(network, by, theme, boxes) : namedPalette(network, by, theme);
}

function namedPalette(network: Network, by: 'kind' | 'precision', theme: Theme): Palette {
  const names = new Map<string, number>();
  for (const side of network.sides) {
    for (const item of network.side(side).items) {
      if (item[by] !== 'end' && item[by] !== '' && !names.has(item[by])) names.set(item[by], names.size);
    }
  }
  const colour = (name: string): string => {
    const at = names.get(name);
    return at === undefined ? theme.surface : softHue(HUES[at % HUES.length], theme.dark);
  };
  return {
    fill: (side, id) => (id < 0 ? theme.surface : colour(network.side(side).items[id][by])),
    legend: [...names.keys()].map((text) => ({ text, colour: colour(text) })),
  };
}

const softHue = (hue: number, dark: boolean): string => (dark ? `hsl(${hue} 32% 30%)` : `hsl(${hue} 72% 89%)`);

function costPalette(
  network: Network,
  by: Metric,
  theme: Theme,
  boxes: ReadonlyMap<SideName, readonly BoxId[]>,
): Palette {
  let most = 0;
  for (const [side, ids] of boxes) for (const id of ids) most = Math.max(most, network.cost(side, id, by) ?? 0);
  return {
    fill: (side, id) => {
      const cost = network.cost(side, id, by);
      return cost === undefined || most === 0 ? theme.surface : ramp(Math.sqrt(cost / most), theme.dark);
    },
    legend: [],
    most: costText(by, most),
  };
}

/** From the surface to orange-red; 0 to 1. The square root above keeps small costs apart. */
export const ramp = (x: number, dark: boolean): string =>
  dark ? `hsl(${40 - 26 * x} ${30 + 55 * x}% ${17 + 27 * x}%)` : `hsl(${46 - 32 * x} ${88}% ${97 - 37 * x}%)`;

export function costText(by: Metric, cost: number): string {
  if (by === 'ms') return cost < 0.1 ? `${(cost * 1e3).toPrecision(3)} µs` : `${cost.toPrecision(3)} ms`;
  const units = by === 'bytes' ? ['B', 'KB', 'MB', 'GB'] : ['FLOP', 'KFLOP', 'MFLOP', 'GFLOP'];
  const power = cost < 1 ? 0 : Math.min(3, Math.floor(Math.log10(cost) / 3));
  return `${power === 0 ? Math.round(cost) : (cost / 1e3 ** power).toPrecision(3)} ${units[power]}`;
}

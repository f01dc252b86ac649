/**
 * The bar chart of latencies: rows in, an SVG document out, or a PNG where sharp is installed.
 */
import { ModelError } from '../core/errors.ts';
import { formatMs, formatNumber } from './table.ts';

export interface ChartBar {
  readonly name: string;
  /** Milliseconds. */
  readonly value: number;
  /** Drawn in the accent colour. */
  readonly ours: boolean;
}

const [OURS, OTHERS] = ['#d9480f', '#868e96'];

/** A horizontal bar a row, shortest time first, each with its figure and how many times ours it is. Returns a complete SVG document. */
export async function barChartSvg(title: string, bars: readonly ChartBar[]): Promise<string> {
  const [{ plot, barX, text, ruleX }, { parseHTML }] = await Promise.all([
    import('@observablehq/plot'),
    import('linkedom'),
  ]);
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const rows = [...bars].sort((a, b) => a.value - b.value);
  const longest = Math.max(...rows.map((row) => row.value));
  const marginLeft = 20 + 8 * Math.max(...rows.map((row) => row.name.length));
  const ours = rows.find((row) => row.ours);
  const label = (row: ChartBar): string => {
    const times = ours && !row.ours ? ` (${formatNumber(row.value / ours.value)} x)` : '';
    return `${formatMs(row.value)}${times}`;
  };
  const svg = plot({
    document,
    width: 720,
    height: 126 + 36 * rows.length,
    marginTop: 64,
    marginBottom: 46,
    marginLeft,
    marginRight: 130,
    // Not drawn through a style sheet: converters such as sharp's know attributes better.
    style: { background: 'white', fontFamily: 'sans-serif', fontSize: '13px' },
    x: { label: 'median latency, ms', labelOffset: 40, domain: [0, longest], grid: true },
    y: { label: null, domain: rows.map((row) => row.name) },
    marks: [
      barX(rows, { x: 'value', y: 'name', fill: (row: ChartBar) => (row.ours ? OURS : OTHERS) }),
      text(rows, {
        x: 'value',
        y: 'name',
        text: label,
        fontWeight: 600,
        dx: 6,
        textAnchor: 'start',
      }),
      text([title], { frameAnchor: 'top-left', dx: 12 - marginLeft, dy: -52, fontSize: 15, fontWeight: 'bold' }),
      text([speedup(rows)], { frameAnchor: 'top-left', dx: 12 - marginLeft, dy: -30, fill: OURS, fontWeight: 600 }),
      ruleX([0]),
    ],
  });
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  return `${svg.outerHTML}\n`;
}

/** `hotrod x64 is 1.4 times as fast as onnxruntime`: beside the fastest of the others. Less than once is said as it is. */
function speedup(rows: readonly ChartBar[]): string {
  const ours = rows.find((row) => row.ours);
  const other = rows.find((row) => !row.ours);
  return ours && other
    ? `${ours.name} is ${formatNumber(other.value / ours.value)} times as fast as ${other.name}`
    : '';
}

/** The document drawn at twice its size. Throws ModelError `package-missing` where sharp is not installed. */
export async function svgToPng(svg: string): Promise<Uint8Array> {
  const sharp = await import('sharp').catch((cause) => {
    throw new ModelError('package-missing', 'writing a chart as PNG needs the package sharp', {
      hint: 'npm i sharp',
      cause,
    });
  });
  return sharp.default(new TextEncoder().encode(svg), { density: 144 }).png().toBuffer();
}

/** The chart in the format that the file's name ends in: `.svg` or `.png`. */
export async function chartFile(file: string, title: string, bars: readonly ChartBar[]): Promise<Uint8Array> {
  const svg = await barChartSvg(title, bars);
  if (file.endsWith('.svg')) return new TextEncoder().encode(svg);
  if (file.endsWith('.png')) return svgToPng(svg);
  throw new ModelError('option-invalid', `--chart ${file}: the name must end in .svg or .png`);
}

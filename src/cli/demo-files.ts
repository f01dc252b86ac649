/** The files that the demo leaves: the chart, the report as a page and as Markdown, the viewer's page of the network. */
import { readFileSync } from 'node:fs';
import { arch, cpus, platform, release, totalmem } from 'node:os';
import { basename, extname, join } from 'node:path';
import { ModelError } from '../core/errors.ts';
import { VERSION } from '../core/version.ts';
import { writeFileAtomically } from '../host/files.ts';
import type { PageModel } from '../view/page.ts';
import { pageHtml } from '../view/page-html.ts';
import { barChartSvg, svgToPng } from './chart.ts';
import { demoHtml } from './demo-page.ts';
import { type DemoReport, demoMarkdown } from './demo-report.ts';
import { formatBytes, formatThreads } from './table.ts';
import type { Terminal } from './terminal.ts';
import { readTemplate } from './viewer-template.ts';

const VIEWER = 'graph.html';
const PICTURE_TYPES: Readonly<Record<string, string>> = { '.png': 'image/png', '.webp': 'image/webp' };

/** Writes everything into the folder, PNG where sharp is there to draw it; the names of the files, the engine's first. */
export async function writeDemo(
  report: DemoReport,
  page: PageModel,
  folder: string,
  terminal: Terminal,
): Promise<readonly string[]> {
  const bars = report.latencies.map(({ name, ours, latencyMs }) => ({ name, ours, value: latencyMs.median }));
  const chart = await barChartSvg(`One inference of ${report.model}`, bars);
  const files = new Map<string, Uint8Array | string>([['latency.svg', chart]]);
  try {
    files.set('latency.png', await svgToPng(chart));
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
    terminal.warn(`the chart is written as SVG only: ${error.message}; ${error.hint}`);
  }
  files.set('report.md', demoMarkdown(report));
  files.set(VIEWER, pageHtml(readTemplate(), page));
  const picture = pictureUrl(report.picture);
  files.set(
    'report.html',
    demoHtml({ report, page, picture, chart, viewer: VIEWER, environment: environment(report) }),
  );
  for (const [name, content] of files) {
    const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
    writeFileAtomically(join(folder, name), bytes);
  }
  return [report.engine.file, ...[...files.keys()].map((name) => join(folder, name))];
}

function pictureUrl(file: string): string {
  const type = PICTURE_TYPES[extname(file).toLowerCase()] ?? 'image/jpeg';
  return `data:${type};base64,${readFileSync(file).toString('base64')}`;
}

const environment = (report: DemoReport): readonly (readonly [string, string])[] => [
  ['Hotrod', VERSION],
  ['Node', process.version],
  ['system', `${platform()} ${release()} ${arch()}`],
  ['processor', `${cpus()[0]?.model.trim() ?? 'unknown'}, ${cpus().length} cores`],
  ['memory', formatBytes(totalmem())],
  ['target', [report.build.target, ...report.build.machine].join(' ')],
  ['threads', formatThreads(report.threads)],
  ['picture', basename(report.picture)],
  ['date', new Date().toISOString().slice(0, 16).replace('T', ' ')],
];

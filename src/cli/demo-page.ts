/**
 * `report.html` of the demo: picture, answer, the graph before and after, accuracy, latencies, build, environment. One file; the viewer's
 * page stands beside it for whoever wants to look closer.
 */
import { drawSvg, escapeXml } from '../view/draw-svg.ts';
import { firstOpen } from '../view/first-open.ts';
import type { PageModel, PageSide } from '../view/page.ts';
import { type BoxId, layoutScene } from '../view/scene.ts';
import { type DemoReport, LATENCY_HEAD, latencyRows } from './demo-report.ts';
import { formatBytes, formatMs, formatNumber, formatThreads } from './table.ts';

export interface DemoPage {
  readonly report: DemoReport;
  readonly page: PageModel;
  /** The picture's file as a data URL. */
  readonly picture: string;
  readonly chart: string;
  /** File name of the viewer's page beside the report. */
  readonly viewer: string;
  readonly environment: readonly (readonly [string, string])[];
}

export function demoHtml({ report, page, picture, chart, viewer, environment }: DemoPage): string {
  const { build, engine, accuracy, answers } = report;
  const nodes = page.graph?.items.filter(({ kind }) => kind !== 'end').length ?? 0;
  const sections = [
    section(
      'The picture, and the answer',
      `<div class="pair"><img src="${picture}" alt="The picture that is classified">${answerTable(answers)}</div>`,
    ),
    section(
      'The graph, before and after',
      `<p>${nodes} nodes of the model become ${engine.steps} steps of the engine; colours of the steps are their share of the time. <a href="${viewer}">Look closer</a>: blocks open, each step shows the nodes that it computes.</p>
      <div class="graphs"><figure><figcaption>Model</figcaption><div class="scroll" tabindex="0" role="region" aria-label="Graph of the model">${sideSvg(page, 'graph')}</div></figure>
      <figure><figcaption>Engine</figcaption><div class="scroll" tabindex="0" role="region" aria-label="Graph of the engine">${sideSvg(page, 'engine')}</div></figure></div>`,
    ),
    section(
      'Accuracy',
      `${table(
        ['output', 'mean absolute error', 'maximum', 'rmse', 'cosine', 'top-1', ''],
        [
          [
            accuracy.name,
            formatNumber(accuracy.mae),
            formatNumber(accuracy.maxAbs),
            formatNumber(accuracy.rmse),
            accuracy.cosine.toFixed(9),
            accuracy.top1Agrees ? 'agrees' : 'differs',
            accuracy.passed ? 'passed' : 'FAILED',
          ],
        ],
      )}<p>The engine’s output against the reference’s, which evaluates the graph node by node in float64.</p>`,
    ),
    section(
      'Latency',
      `<div class="chart">${chart}</div>${table(LATENCY_HEAD, latencyRows(report))}<p>One inference, ${formatThreads(report.threads)} (the reference runs on one), measured in turn in one process.</p>${report.missing.map(({ name, reason }) => `<p>${escapeXml(`${name} was not measured: ${reason}`)}</p>`).join('')}`,
    ),
    section(
      'Build',
      table(
        ['stage', 'time'],
        [...build.stages.map(({ name, ms }) => [name, formatMs(ms)]), ['all', formatMs(build.buildMs)]],
      ) +
        `<p>${escapeXml(engine.file)}: ${formatBytes(engine.fileBytes)}, target ${build.target} (${escapeXml(build.machine.join(', '))}).</p>`,
    ),
    section('Environment', table(['', ''], environment)),
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,"><title>Hotrod demo</title><style>${STYLE}</style></head>
<body><main><h1>${escapeXml(`${report.model}: ${answers[0].label}`)}</h1><p class="lead">${escapeXml(headline(report))}</p>${sections.join('\n')}</main></body></html>
`;
}

function headline({ latencies, accuracy }: DemoReport): string {
  const ours = latencies.find((row) => row.ours);
  const others = latencies.filter((row) => !row.ours && row.name !== 'reference');
  const times = others.map(
    ({ name, latencyMs }) =>
      ours && `${formatNumber(latencyMs.median / ours.latencyMs.median)} times as fast as ${name}`,
  );
  const speed = ours
    ? `${formatMs(ours.latencyMs.median)} an inference${times.length > 0 ? `, ${times.join(', ')}` : ''}; `
    : '';
  return `${speed}mean absolute error ${formatNumber(accuracy.mae)} against the reference.`;
}

function answerTable(answers: DemoReport['answers']): string {
  const rows = answers.map(({ label, index, confidence }) => {
    const percent = (100 * confidence).toFixed(2);
    return `<tr><td>${escapeXml(label)}</td><td class="number">${index}</td><td class="number">${percent} %</td><td class="wide"><i style="width:${percent}%"></i></td></tr>`;
  });
  return `<table><thead><tr><th>answer</th><th>class</th><th>confidence</th><th></th></tr></thead><tbody>${rows.join('')}</tbody></table>`;
}

const section = (title: string, body: string): string => `<section><h2>${title}</h2>${body}</section>`;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: 'td' | 'th', row: readonly string[]) =>
    row.map((cell, i) => `<${tag}${i > 0 ? ' class="number"' : ''}>${escapeXml(cell)}</${tag}>`).join('');
  const top = head.every((cell) => cell === '') ? '' : `<thead><tr>${cells('th', head)}</tr></thead>`;
  return `<div class="table"><table>${top}<tbody>${rows.map((row) => `<tr>${cells('td', row)}</tr>`).join('')}</tbody></table></div>`;
}

function sideSvg(page: PageModel, name: 'graph' | 'engine'): string {
  const side = page[name];
  if (!side) return '<p>The engine runs the graph itself.</p>';
  const inside = itemsByGroup(side, page);
  const total = side.items.reduce((sum, { ms = 0 }) => sum + ms, 0);
  const share = (id: BoxId) =>
    (id >= 0 ? (side.items[id].ms ?? 0) : inside[-1 - id].reduce((sum, i) => sum + (side.items[i].ms ?? 0), 0)) / total;
  const scene = layoutScene(side, page.groups, firstOpen(page, name));
  const most = Math.max(...scene.boxes.filter((box) => !box.frame).map(({ id }) => share(id)));
  return drawSvg(side, page.groups, scene, {
    label: `${name === 'graph' ? 'Model' : 'Engine'} of ${side.items.length} items`,
    fill: (id) =>
      total > 0 && share(id) > 0
        ? `color-mix(in srgb, var(--hot) ${(85 * Math.sqrt(share(id) / most)).toFixed(0)}%, var(--surface))`
        : undefined,
    below: (group) => `${inside[group].length} ${name === 'graph' ? 'nodes' : 'steps'}`,
  });
}

/** The items in each group and the groups within it. */
function itemsByGroup(side: PageSide, { groups }: PageModel): readonly (readonly number[])[] {
  const inside: number[][] = groups.map(() => []);
  for (const [i, { group }] of side.items.entries())
    for (let g = group; g >= 0; g = groups[g].parent) inside[g].push(i);
  return inside;
}

const STYLE = `
:root{--ground:#f6f7f9;--surface:#fff;--line:#d5dae1;--text:#1b2027;--muted:#5c6674;--edge:#98a2b0;--frame:#eceff3;--hot:#f4622f;color-scheme:light}
@media(prefers-color-scheme:dark){:root{--ground:#14171c;--surface:#1b1f26;--line:#343b47;--text:#e8ebf0;--muted:#9aa5b4;--edge:#667182;--frame:#20252d;--hot:#c2521f;color-scheme:dark}}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--text);font:15px/1.5 system-ui,"DejaVu Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}h1{margin:0;font-size:26px}.lead{margin:4px 0 24px;color:var(--muted);font-size:17px}
section{background:var(--surface);border:1px solid var(--line);border-radius:14px;padding:18px 22px;margin:0 0 18px}h2{margin:0 0 12px;font-size:16px}
p{margin:10px 0 0;color:var(--muted)}a{color:inherit}.pair{display:flex;gap:24px;flex-wrap:wrap;align-items:flex-start}.pair img{width:220px;max-height:220px;object-fit:contain;border-radius:10px;border:1px solid var(--line);background:#fff}
.pair table{flex:1 1 320px}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th{text-align:left;font-size:12px;color:var(--muted);font-weight:600}td,th{padding:5px 12px 5px 0;border-bottom:1px solid var(--line);vertical-align:middle}tr:last-child td{border-bottom:0}.number{white-space:nowrap}
.table{overflow-x:auto}.wide{width:34%}.wide i{display:block;height:8px;border-radius:4px;background:var(--hot);min-width:1px}
.graphs{display:grid;grid-template-columns:1fr 1fr;gap:16px;margin-top:14px}figure{margin:0;min-width:0}figcaption{font-weight:600;font-size:13px;margin-bottom:6px}.scroll{overflow:auto;max-height:560px;border:1px solid var(--line);border-radius:10px;background:var(--ground);padding:8px}
.graph{display:block;margin:0 auto;font-family:system-ui,"DejaVu Sans",sans-serif}.frame{fill:var(--frame);stroke:var(--line)}.box{fill:var(--surface);stroke:var(--line)}.edge{fill:none;stroke:var(--edge)}.arrow{fill:var(--edge)}
.name{font-size:12.5px;font-weight:600;fill:var(--text)}.below{font-size:11px;fill:var(--text);opacity:.7}.type{font:10px ui-monospace,"DejaVu Sans Mono",monospace;fill:var(--muted)}
.chart{background:#fff;border-radius:10px;padding:6px;margin-bottom:12px;overflow-x:auto}.chart svg{max-width:100%;min-width:560px;height:auto}
@media(max-width:720px){.graphs{grid-template-columns:1fr}.pair img{width:100%}}
`;

/**
 * A scene as an SVG document, for reports: boxes with two lines of text, frames, edges with their types. Colours are classes of the page
 * around it (`box`, `frame`, `edge`, `name`, `below`) but for boxes with a colour of their own.
 */
import type { PageGroup, PageSide } from './page.ts';
import { type BoxId, type Scene, type SceneBox, type SceneEdge, shortName } from './scene.ts';

export interface DrawOptions {
  /** Read out in place of the picture. */
  readonly label: string;
  /** Of a box; undefined leaves it to the page's style. */
  fill(id: BoxId): string | undefined;
  /** The second line of a closed block, such as `12 nodes`. */
  below(group: number): string;
}

const MARGIN = 12;
/** Widths of a character of the two lines: texts are cut to fit. */
const [TITLE_CHAR, NAME_CHAR] = [7.6, 6.2];

export function drawSvg(side: PageSide, groups: readonly PageGroup[], scene: Scene, options: DrawOptions): string {
  const width = Math.ceil(scene.width) + 2 * MARGIN + 60;
  const height = Math.ceil(scene.height) + 2 * MARGIN;
  const frames = scene.boxes.filter((box) => box.frame).map((box) => frameSvg(box, groups));
  const boxes = scene.boxes.filter((box) => !box.frame).map((box) => boxSvg(box, side, groups, options));
  const parts = [...frames, ...scene.edges.map(edgeSvg), ...boxes];
  return `<svg class="graph" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="${escapeXml(options.label)}" width="${width}" height="${height}" viewBox="${-MARGIN} ${-MARGIN} ${width} ${height}">${parts.join('')}</svg>`;
}

function frameSvg({ id, x, y, width, height }: SceneBox, groups: readonly PageGroup[]): string {
  const title = `<text class="below" x="${round(x + 10)}" y="${round(y + 17)}">${escapeXml(groups[-1 - id].label)}</text>`;
  return `${rect('frame', x, y, width, height, 10)}${title}`;
}

function boxSvg(box: SceneBox, side: PageSide, groups: readonly PageGroup[], options: DrawOptions): string {
  const { id, x, y, width, height } = box;
  const item = id < 0 ? undefined : side.items[id];
  const title = item ? item.title : groups[-1 - id].label;
  const below = item ? shortName(item.name) : options.below(-1 - id);
  const fill = options.fill(id);
  const pile = item ? '' : rect('frame', x + 4, y + 4, width, height, 8);
  const body = rect('box', x, y, width, height, item?.kind === 'end' ? height / 2 : 8, fill);
  const text = (kind: string, dy: number, content: string, char: number) =>
    `<text class="${kind}" x="${round(x + 12)}" y="${round(y + height / 2 + dy)}">${escapeXml(cut(content, (width - 22) / char))}</text>`;
  const hint = `<title>${escapeXml(`${title} ${item?.name ?? below}`)}</title>`;
  return `<g>${hint}${pile}${body}${text('name', -3, title, TITLE_CHAR)}${text('below', 12, below, NAME_CHAR)}</g>`;
}

function edgeSvg({ points, label, arrow }: SceneEdge): string {
  let path = `M${round(points[0])} ${round(points[1])}`;
  for (let i = 2; i < points.length; i += 2) {
    const [x0, y0, x1, y1] = points.slice(i - 2, i + 2);
    const bend = Math.max(12, Math.abs(y1 - y0) / 2);
    path +=
      x0 === x1 ? `L${round(x1)} ${round(y1)}` : `C${[x0, y0 + bend, x1, y1 - bend, x1, y1].map(round).join(' ')}`;
  }
  const [x, y] = points.slice(-2);
  const head = arrow ? `<path class="arrow" d="M${round(x)} ${round(y)}l-4 -8h8z"/>` : '';
  const type =
    label === ''
      ? ''
      : `<text class="type" x="${round(points[0] + 7)}" y="${round(points[1] + 14)}">${escapeXml(label)}</text>`;
  return `<path class="edge" d="${path}"/>${head}${type}`;
}

const rect = (
  kind: string,
  x: number,
  y: number,
  width: number,
  height: number,
  radius: number,
  fill?: string,
): string =>
  `<rect class="${kind}" x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}" rx="${radius}"${fill === undefined ? '' : ` style="fill:${fill}"`}/>`;

const round = (x: number): number => Math.round(x * 10) / 10;
const cut = (text: string, most: number): string =>
  text.length <= most ? text : `${text.slice(0, Math.max(1, Math.floor(most) - 1))}…`;

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
export const escapeXml = (text: string): string => text.replace(/[&<>"]/g, (char) => ESCAPES[char]);

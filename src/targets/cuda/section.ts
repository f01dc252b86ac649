/**
 * A kernel as a section of a persistent one: in comes an entry as any template wrote it, out its body, to stand between two labels.
 *
 * What the hardware told the entry comes from registers and memory of the program around it instead:
 *
 *     %ctaid.x, .y, %nctaid.x   →  registers: the tile's place, the grid that the launch would have had
 *     ld.param [p]              →  ld.shared [record + offset of p]
 *     griddepcontrol.wait       →  the wait for the steps before; what stands above it may run while they do
 *     griddepcontrol.launch_…   →  nothing: there is no next kernel to let go
 *     bar.sync 0                →  a barrier of the section's own threads: the block may have more
 *     ret                       →  a branch to the end of the section
 *     ld.global.nc              →  ld.global: what one reads another block may have written in the same launch
 *
 * Registers are renamed, shared variables and tables stand aside. Whatever else depends on the launch is refused.
 */
import { Bug } from '../../core/errors.ts';
import type { PtxEntry } from './ptx.ts';

export interface Section {
  /** Declarations for the entry around it. */
  readonly registers: readonly string[];
  readonly shared: readonly string[];
  /** Module variables. */
  readonly tables: readonly string[];
  /** From the first instruction to a branch to `end`. */
  readonly body: string;
}

/** Names and texts of the program around a section. */
export interface SectionSite {
  /** Distinguishes the section's registers from others'. */
  readonly prefix: string;
  /** Threads that take part, a multiple of 32. */
  readonly threads: number;
  /** Label behind the section. */
  readonly end: string;
  /** Registers for what %ctaid.x, %ctaid.y and %nctaid.x were. */
  readonly place: { readonly x: string; readonly y: string; readonly width: string };
  /** Register with the shared address of the record; argument i lies at `argumentsAt` + 8·i in it. */
  readonly record: string;
  readonly argumentsAt: number;
  /** Instructions that return when all that the step depends on is done, for all threads of the section. */
  readonly wait: string;
}

/** The number of the barrier of a section's threads. */
export const SECTION_BARRIER = 1;

const LINE = '\n';
/** Declarations, which stand elsewhere, and what there is no use for. */
const LEFT_OUT = /^\s*(\.reg|\.shared|griddepcontrol\.launch_dependents;)/;
/** What of the hardware's registers is the same in a section. */
const SAME = /^%(tid\.x|laneid)$/;
const HARDWARE =
  /%(?:n?tid|n?ctaid|n?clusterid|cluster_\w+|laneid|n?warpid|n?smid|gridid|clock\w*|globaltimer)\b(?:\.[xyz])?/g;

/** Throws Bug where the entry does what a section cannot. */
export function sectionOf(entry: PtxEntry, site: SectionSite): Section {
  const text = entry.text();
  const start = text.indexOf(`.visible .entry ${entry.name}(`);
  const open = text.indexOf('\n{\n', start);
  const close = text.lastIndexOf('\n}');
  if (start < 0 || open < 0 || close < open) throw new Bug('cuda-section', `${entry.name} is not one entry`);
  const lines = text.slice(open + '\n{\n'.length, close).split(LINE);
  const declared = (kind: string): string[] => lines.filter((line) => line.trimStart().startsWith(kind));
  const rename = renaming(declared('.reg'), site.prefix);
  const code = lines.filter((line) => !LEFT_OUT.test(line)).map((line) => inPlace(line, site));
  const waits = code.filter((line) => line === site.wait).length;
  if (waits !== 1) throw new Bug('cuda-section', `${entry.name} waits ${waits} times for the kernel before`);
  const parameters = [...text.slice(start, open).matchAll(/\.param \.u(?:32|64) (\w+)/g)].map(([, name]) => name);
  const body = parameters.reduce(
    (all, name, i) => all.replaceAll(`[${name}]`, `[${site.record}+${site.argumentsAt + 8 * i}]`),
    code.map((line) => (line === site.wait ? line : rename(line))).join(LINE),
  );
  return {
    registers: declared('.reg').map((line) => rename(line)),
    shared: declared('.shared'),
    tables: text
      .slice(0, start)
      .split(LINE)
      .filter((line) => line !== ''),
    body: `${body}${LINE}  bra ${site.end};`,
  };
}

/** Puts the prefix to the registers that are declared. */
function renaming(declarations: readonly string[], prefix: string): (line: string) => string {
  const stems = declarations.flatMap((line) =>
    [...line.matchAll(/%(\w+?)(?:<\d+>|\d*)(?=[,;])/g)].map(([, stem]) => stem),
  );
  const longestFirst = [...new Set(stems)].sort((a, b) => b.length - a.length);
  const register = new RegExp(`%(?=(?:${longestFirst.join('|')})(?:\\d+\\b|<|\\b))`, 'g');
  return (line) => (stems.length === 0 ? line : line.replace(register, `%${prefix}`));
}

/** A line of the entry as it stands in the section; the wait becomes the site's. */
function inPlace(line: string, { threads, end, place, wait }: SectionSite): string {
  if (line.trim() === 'griddepcontrol.wait;') return wait;
  const moved = line
    .replace('%nctaid.x', place.width)
    .replace('%ctaid.x', place.x)
    .replace('%ctaid.y', place.y)
    .replace(/\bbar\.sync 0;/, `bar.sync ${SECTION_BARRIER}, ${threads};`)
    .replace(/\bret;/, `bra ${end};`)
    .replace('ld.global.nc.', 'ld.global.')
    .replace(/\bld\.param\.(u32|u64)\b/, 'ld.shared.$1');
  const foreign = [...moved.matchAll(HARDWARE)].map(([name]) => name).find((name) => !SAME.test(name));
  if (foreign !== undefined) throw new Bug('cuda-section', `a section cannot use ${foreign}: ${line.trim()}`);
  const barrier = /\bbar\.(?!warp\.)/.test(moved) && !moved.includes(`bar.sync ${SECTION_BARRIER}, ${threads};`);
  if (barrier || /\bgriddepcontrol\b|\bexit;/.test(moved))
    throw new Bug('cuda-section', `a section cannot do this: ${line.trim()}`);
  return moved;
}

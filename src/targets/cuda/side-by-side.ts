/**
 * Independent steps in one launch: the first blocks of the grid do one step, the next ones another.
 *
 * Launches of a program follow each other, and each costs the hand-over from the one before, however little it does. Where a network
 * branches and the grids of small neighbouring steps fit on the GPU at once, they share a launch. In come entries as templates wrote
 * them; out an entry in which each is a section that finds its block number in a register:
 *
 *     at = ctaid;  if (at >= blocks of a) goto b;  { a, with at for ctaid }  ret;  b: at -= blocks of a;  { b … }
 */
import type { Step } from '../../engine/engine.ts';
import type { Kernel } from '../../loop/ir.ts';
import { independent, type Touch, touchesOf } from './independent.ts';
import type { PtxEntry } from './ptx.ts';
import type { EmittedKernel, KernelLaunch } from './template.ts';

export interface GroupChip {
  readonly multiprocessors: number;
}

const SHARED_BYTES_PER_MULTIPROCESSOR = 228 * 1024;
/** What the driver keeps of a block's shared memory for itself. */
const SHARED_BYTES_RESERVED = 1024;
/** Shared memory that an entry may declare: PTX allows no more, whatever the chip has. */
const MOST_DECLARED = 48 * 1024;
/** Threads that a multiprocessor has registers for, if each takes 128. */
const THREADS_PER_MULTIPROCESSOR = 512;
const BLOCKS_PER_MULTIPROCESSOR = 32;
/** Sections of a launch: each block finds its own by comparing. */
const MOST_SECTIONS = 8;

/** Runs of steps that may share a launch, in order; most have one step. */
export function groupSteps(
  steps: readonly Step[],
  kernels: readonly Kernel[],
  pieces: readonly EmittedKernel[],
  chip: GroupChip,
): readonly (readonly number[])[] {
  const touches = steps.map((step) => touchesOf(step, kernels[step.kernel]));
  const groups: number[][] = [];
  for (const [i, piece] of pieces.entries()) {
    const group = groups.at(-1);
    if (group && mayJoin(group, i, piece, pieces, touches, chip)) group.push(i);
    else groups.push([i]);
  }
  return groups;
}

function mayJoin(
  group: readonly number[],
  step: number,
  piece: EmittedKernel,
  pieces: readonly EmittedKernel[],
  touches: readonly (readonly Touch[])[],
  chip: GroupChip,
): boolean {
  const all = [...group.map((i) => pieces[i]), piece];
  return (
    group.length < MOST_SECTIONS &&
    all.every(isSection) &&
    areResident(
      all.map(({ launches }) => launches[0]),
      chip,
    ) &&
    group.every((i) => independent(touches[i], touches[step]))
  );
}

/** One launch with blocks along x only, which asks for nothing but its own block's number. */
const isSection = ({ launches, scratchBytes }: EmittedKernel): boolean =>
  launches.length === 1 &&
  !launches[0].alone &&
  scratchBytes === 0 &&
  launches[0].grid[1] === 1 &&
  launches[0].grid[2] === 1 &&
  launches[0].args.every(({ kind }) => kind === 'buffer') &&
  !launches[0].code.text().includes('%nctaid');

/** Whether all blocks can be on the GPU at once, in clusters of one size. */
function areResident(launches: readonly KernelLaunch[], { multiprocessors }: GroupChip): boolean {
  const clusters = new Set(launches.map(clusterOf).filter((n) => n > 1));
  if (clusters.size > 1) return false;
  const declared = launches.reduce((sum, { code }) => sum + declaredShared(code), 0);
  if (declared > MOST_DECLARED) return false;
  const dynamic = Math.max(...launches.map(({ sharedBytes = 0 }) => sharedBytes));
  const shared = dynamic + declared + SHARED_BYTES_RESERVED;
  const resident = Math.min(
    Math.floor(SHARED_BYTES_PER_MULTIPROCESSOR / shared),
    Math.floor(THREADS_PER_MULTIPROCESSOR / Math.max(...launches.map(threadsOf))),
    BLOCKS_PER_MULTIPROCESSOR,
  );
  return launches.reduce((sum, { grid }) => sum + grid[0], 0) <= resident * multiprocessors;
}

/** Bytes of shared memory that an entry declares: those of all sections stand beside each other. */
const declaredShared = (code: PtxEntry): number =>
  [...code.text().matchAll(/^ *\.shared .*\[(\d+)\];$/gm)].reduce((sum, [, bytes]) => sum + Number(bytes), 0);

const clusterOf = ({ cluster }: KernelLaunch): number => cluster?.[0] ?? 1;
const threadsOf = ({ block }: KernelLaunch): number => block[0];

/** The launches as one. Buffers that its arguments name are numbered through those of all steps: `buffers` is how many each has. */
export function mergeLaunches(
  name: string,
  launches: readonly KernelLaunch[],
  buffers: readonly number[],
): KernelLaunch {
  const cluster = Math.max(...launches.map(clusterOf));
  const threads = Math.max(...launches.map(threadsOf));
  const blocks = launches.map(({ grid }) => Math.ceil(grid[0] / cluster) * cluster);
  const sections = launches.map((launch, i) => sectionOf(launch, `${name}_${i}`, i, blocks[i], threads));
  const text = entryText(name, sections, blocks, threads, cluster);
  const code: PtxEntry = {
    name,
    exact: launches.some((l) => l.code.exact),
    dynamicShared: launches.some((l) => l.code.dynamicShared),
    text: () => text,
  };
  const sharedBytes = Math.max(...launches.map((l) => l.sharedBytes ?? 0));
  let first = 0;
  const args = launches.flatMap((launch, i) => {
    const before = first;
    first += buffers[i];
    return launch.args.map((arg) => (arg.kind === 'buffer' ? { ...arg, index: arg.index + before } : arg));
  });
  return {
    code,
    grid: [blocks.reduce((sum, n) => sum + n, 0), 1, 1],
    block: [threads, 1, 1],
    sharedBytes,
    ...(cluster > 1 && { cluster: [cluster, 1, 1] as const }),
    isAhead: launches.some((l) => l.isAhead),
    args,
  };
}

interface Section {
  readonly tables: string;
  readonly params: string;
  readonly declared: string;
  readonly body: string;
}

/** An entry's parts, with names of its own and the block's number from a register. */
function sectionOf(
  { code, grid, block }: KernelLaunch,
  name: string,
  number: number,
  blocks: number,
  threads: number,
): Section {
  const text = code.text().replaceAll(code.name, name);
  const entry = text.indexOf('.visible .entry');
  const open = text.indexOf('(', entry);
  const close = text.indexOf(')', open);
  const start = text.indexOf('\n{\n', close) + '\n{\n'.length;
  const body = text
    .slice(start, text.lastIndexOf('}'))
    .replaceAll('%ctaid.x', '%side_at')
    .replaceAll('%ctaid.y', '0')
    .replaceAll(/%([a-z]+\d)/g, `%s${number}$1`)
    .replaceAll(/(\.reg \.\w+ )%([a-z]+)</g, `$1%s${number}$2<`);
  const leave = [
    ...(grid[0] < blocks ? [`  setp.ge.u32 %side_p, %side_at, ${grid[0]};`, '  @%side_p ret;'] : []),
    ...(block[0] < threads
      ? ['  mov.u32 %side_t, %tid.x;', `  setp.ge.u32 %side_p, %side_t, ${block[0]};`, '  @%side_p ret;']
      : []),
  ];
  const declared = /^(?: +\.(?:reg|shared)[^\n]*\n)*/.exec(body)?.[0] ?? '';
  return {
    tables: text.slice(0, entry),
    params: text.slice(open + 1, close).trim(),
    declared,
    body: [...leave, body.slice(declared.length).trimEnd()].join('\n'),
  };
}

function entryText(
  name: string,
  sections: readonly Section[],
  blocks: readonly number[],
  threads: number,
  cluster: number,
): string {
  const written = sections.flatMap(({ body }, i) => {
    const isLast = i === sections.length - 1;
    return [
      ...(isLast ? [] : [`  setp.ge.u32 %side_p, %side_at, ${blocks[i]};`, `  @%side_p bra $${name}_s${i + 1};`]),
      body,
      ...(isLast ? [] : [`$${name}_s${i + 1}:`, `  sub.u32 %side_at, %side_at, ${blocks[i]};`]),
    ];
  });
  return [
    `${sections.map(({ tables }) => tables).join('')}.visible .entry ${name}(${sections.map(({ params }) => params).join(', ')})`,
    `.maxntid ${threads}, 1, 1`,
    ...(cluster > 1 ? [`.reqnctapercluster ${cluster}, 1, 1`] : []),
    '{',
    '  .reg .pred %side_p;',
    '  .reg .b32 %side_at, %side_t;',
    ...sections.map(({ declared }) => declared.trimEnd()),
    '  mov.u32 %side_at, %ctaid.x;',
    ...written,
    '}',
    '',
  ].join('\n');
}

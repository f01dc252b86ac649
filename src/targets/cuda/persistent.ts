/**
 * Launches in a row as one: a persistent kernel (persistent-entry.ts), and a record for each of them.
 *
 * In come the launches of a graph, out the same with each row of those that fit replaced by one launch. What fits: blocks of no more
 * threads and shared memory than the persistent ones have; of clusters those of its own size, with all of its threads.
 * Launches that do not wait for each other are dealt to blocks one after the other, so that branches of a network run side by side.
 */
import type { Step } from '../../engine/engine.ts';
import type { Kernel } from '../../loop/ir.ts';
import { COUNTER_BYTES, persistentEntry, type RecordLayout, recordLayout } from './persistent-entry.ts';
import type { CodedLaunch, CudaArg } from './program.ts';
import { waitsOf } from './waits.ts';

/** The blocks of persistent kernels. */
export interface Residency {
  /** Threads of a block. */
  readonly threads: number;
  /** Blocks on a multiprocessor. */
  readonly resident: number;
  /** Blocks of a cluster; 1: none. */
  readonly cluster: number;
  /** Of all multiprocessors together; a multiple of `cluster`. */
  readonly blocks: number;
  /** Shared memory that a block may have, bytes. */
  readonly sharedBytes: number;
}

/** A launch as a step of a persistent kernel. */
export interface StepRecord {
  /** Step of the engine. */
  readonly step: number;
  readonly section: number;
  /** Blocks of the launch along x, and in all. */
  readonly width: number;
  readonly tiles: number;
  /** The block that has the first tile. */
  readonly first: number;
  /** Earlier records, and how many blocks have a tile of each. */
  readonly waits: readonly { readonly record: number; readonly blocks: number }[];
  readonly args: readonly CudaArg[];
}

export interface RecordTable {
  readonly layout: RecordLayout;
  readonly records: readonly StepRecord[];
}

/** A row is worth a kernel of its own from so many launches on. */
const LEAST_LAUNCHES = 2;
/** What a kernel may have of shared memory beside what it asks for at launch: records and shared variables of sections. */
const STATIC_SHARED_BYTES = 16 * 1024;

export interface JoinedLaunches {
  readonly launches: readonly CodedLaunch[];
  /** Memory for counters: zero at first, and left as it is between runs. */
  readonly stateBytes: number;
}

/** `name` names the entries. Pure. */
export function joinLaunches(
  launches: readonly CodedLaunch[],
  steps: readonly Pick<Step, 'kernel' | 'buffers'>[],
  kernels: readonly Kernel[],
  residency: Residency,
  name: string,
): JoinedLaunches {
  let stateBytes = 0;
  const rows = rowsOf(launches, (launch) => fits(launch, residency));
  const joined = rows.flatMap(({ row, fit }, i): readonly CodedLaunch[] => {
    if (!fit || row.length < LEAST_LAUNCHES) return row;
    const byteOffset = stateBytes;
    stateBytes += COUNTER_BYTES * (row.length + 1);
    return [joinRow(row, steps, kernels, residency, `${name}_${i}`, byteOffset)];
  });
  return { launches: joined, stateBytes };
}

const fits = ({ block, cluster, sharedBytes, alone }: CodedLaunch, to: Residency): boolean => {
  if (alone || sharedBytes + STATIC_SHARED_BYTES > to.sharedBytes) return false;
  const [threads] = block;
  return cluster ? cluster[0] === to.cluster && threads === to.threads : threads <= to.threads && threads % 32 === 0;
};

function rowsOf<T>(
  all: readonly T[],
  test: (x: T) => boolean,
): { readonly row: readonly T[]; readonly fit: boolean }[] {
  const rows: { row: T[]; fit: boolean }[] = [];
  for (const x of all) {
    const fit = test(x);
    if (rows.at(-1)?.fit !== fit) rows.push({ row: [], fit });
    rows[rows.length - 1].row.push(x);
  }
  return rows;
}

function joinRow(
  row: readonly CodedLaunch[],
  steps: readonly Pick<Step, 'kernel' | 'buffers'>[],
  kernels: readonly Kernel[],
  { threads, resident, cluster, blocks }: Residency,
  name: string,
  byteOffset: number,
): CodedLaunch {
  const { order, waits } = byLevel(waitsOf(row, steps, kernels));
  const ordered = order.map((i) => row[i]);
  const codes = [...new Set(ordered.map(({ code }) => code))];
  const tiles = ordered.map(({ grid }) => grid[0] * grid[1]);
  const records: StepRecord[] = [];
  for (const [i, { step, code, grid, args }] of ordered.entries()) {
    const before = records.at(-1);
    const isBeside = before && !waits[i].includes(i - 1);
    const end = isBeside ? before.first + before.tiles : 0;
    records.push({
      step,
      section: codes.indexOf(code),
      width: grid[0],
      tiles: tiles[i],
      first: (Math.ceil(end / cluster) * cluster) % blocks,
      waits: waits[i].map((record) => ({ record, blocks: Math.min(blocks, tiles[record]) })),
      args,
    });
  }
  const most = (count: (r: StepRecord) => number): number => records.reduce((n, r) => Math.max(n, count(r)), 0);
  const layout = recordLayout(
    most((r) => r.args.length),
    most((r) => r.waits.length),
  );
  const sections = codes.map((code) => ({ code, threads: ordered.find((l) => l.code === code)?.block[0] as number }));
  return {
    step: row[0].step,
    code: persistentEntry({ name, sections, layout, steps: records.length, threads, resident }),
    grid: [blocks, 1, 1],
    block: [threads, 1, 1],
    sharedBytes: ordered.reduce((n, l) => Math.max(n, l.sharedBytes), 0),
    ...(cluster > 1 && { cluster: [cluster, 1, 1] }),
    cooperative: true,
    args: [
      { kind: 'records', table: { layout, records } },
      { kind: 'state', byteOffset },
    ],
  };
}

/** An order in which what can run side by side stands side by side, and the waits in it. */
function byLevel(waits: readonly (readonly number[])[]): {
  readonly order: readonly number[];
  readonly waits: readonly (readonly number[])[];
} {
  const levels: number[] = [];
  for (const before of waits) levels.push(before.reduce((level, j) => Math.max(level, levels[j] + 1), 0));
  const order = levels.map((_, i) => i).sort((i, j) => levels[i] - levels[j] || i - j);
  const at = new Map(order.map((i, place) => [i, place]));
  return { order, waits: order.map((i) => waits[i].map((j) => at.get(j) as number)) };
}

/** What a launch does, step by step. */
export function workOf({
  step,
  beside = [],
  args,
}: Pick<CodedLaunch, 'step' | 'beside' | 'args'>): readonly Pick<CodedLaunch, 'step' | 'args'>[] {
  const joined = args.flatMap((arg) => (arg.kind === 'records' ? arg.table.records : []));
  return joined.length > 0 ? joined : [step, ...beside].map((one) => ({ step: one, args }));
}

/** The bytes of a table. `valueIn` gives addresses and numbers. */
export function writeRecords(
  { layout, records }: RecordTable,
  valueIn: (arg: CudaArg, step: number) => number,
): Uint8Array {
  const view = new DataView(new ArrayBuffer(layout.bytes * records.length));
  for (const [i, { step, section, width, tiles, first, waits, args }] of records.entries()) {
    const at = layout.bytes * i;
    for (const [w, word] of [section, width, tiles, first, waits.length].entries())
      view.setUint32(at + 4 * w, word, true);
    for (const [a, arg] of args.entries())
      view.setBigUint64(at + layout.argumentsAt + 8 * a, BigInt(valueIn(arg, step)), true);
    for (const [w, { record, blocks }] of waits.entries()) {
      view.setUint32(at + layout.waitsAt + 8 * w, record, true);
      view.setUint32(at + layout.waitsAt + 8 * w + 4, blocks, true);
    }
  }
  return new Uint8Array(view.buffer);
}

/**
 * What a register tile reaches as machine code: GFLOP/s of one core by rows × columns and unrolling, all in cache.
 *
 *     node bench/x64-tiles.ts [lanes: 8 or 16] [rows]x[columns] ...
 *
 * A k step loads a vector a lane group of columns, then row by row splats one element and multiplies all pairs. Rounds take turns, the
 * best of each counts: this asks what the code can do, not how busy the machine is.
 */
import type { Asm } from '../src/targets/cpu/asm.ts';
import { addressOf, type LoadedCode, loadX64, withoutX64 } from '../tests/asm/x64-runner.ts';

const K = 256;
const ROUNDS = 300;
const FLOPS_A_ROUND = 4e6;
const DEFAULT_SHAPES = {
  8: ['1x64', '2x40', '3x32', '4x24', '6x16', '12x8', '14x8', '5x16', '4x16', '3x24', '2x32', '6x24'],
  16: [
    '12x32',
    '14x32',
    '6x64',
    '7x48',
    '8x48',
    '9x48',
    '5x64',
    '4x64',
    '24x16',
    '28x16',
    '10x32',
    '8x32',
    '3x64',
    '1x128',
  ],
} as const;
const UNROLLS = [1, 2, 4];

interface Row {
  readonly shape: string;
  readonly unroll: number;
  readonly code: LoadedCode;
  readonly times: number;
  readonly flops: number;
  best: number;
}

/** `end` times: out[rows][columns] = a[rows][K] · b[K][columns]. */
function emitTile(asm: Asm, rows: number, columns: number, unroll: number): void {
  const [begin, end, a, b, out] = asm.params;
  const vectors = columns / asm.lanes;
  const bytes = 4 * asm.lanes;
  asm.loop(begin, end, 1, () => {
    const acc = Array.from({ length: rows * vectors }, () => {
      const sum = asm.reg('vf32');
      asm.move(sum, asm.const('vf32', 0));
      return sum;
    });
    const [pa, pb] = [asm.reg('ptr'), asm.reg('ptr')];
    asm.move(pa, a);
    asm.move(pb, b);
    asm.loop(asm.const('i32', 0), asm.const('i32', K), unroll, () => {
      for (let u = 0; u < unroll; u++) {
        const load = (v: number) => asm.load('vf32', pb, bytes * (u * vectors + v));
        const panel = rows > 1 ? Array.from({ length: vectors }, (_, v) => load(v)) : [];
        for (let r = 0; r < rows; r++) {
          const splat = asm.load('splatf32', pa, 4 * (r * K + u));
          for (let v = 0; v < vectors; v++) asm.fma(acc[r * vectors + v], splat, panel[v] ?? load(v));
        }
      }
      asm.op('add', [pa, asm.const('ptr', 4 * unroll)], pa);
      asm.op('add', [pb, asm.const('ptr', 4 * columns * unroll)], pb);
    });
    acc.forEach((sum, i) => {
      asm.store('vf32', out, bytes * i, sum);
    });
  });
}

if (withoutX64) throw new Error(withoutX64);
const [first = '', ...others] = process.argv.slice(2);
const lanes = first === '16' ? 16 : 8;
const asked = first === '16' || first === '8' ? others : [first, ...others].filter(Boolean);
const shapes = asked.length > 0 ? asked : DEFAULT_SHAPES[lanes];
const memory = new Float32Array(1 << 16).fill(0.5);
const base = addressOf(memory);
const addresses = [base, base + 32768, base + 131072];
const measured = shapes.flatMap((shape) =>
  UNROLLS.map((unroll): Row => {
    const [rows, columns] = shape.split('x').map(Number);
    const once = 2 * rows * columns * K;
    const times = Math.ceil(FLOPS_A_ROUND / once);
    const code = loadX64((asm) => emitTile(asm, rows, columns, unroll), 3, lanes);
    return { shape, unroll, code, times, flops: once * times, best: 0 };
  }),
);
for (let round = 0; round < ROUNDS; round++) {
  for (const row of measured) {
    const start = process.hrtime.bigint();
    row.code.run(0, row.times, addresses);
    row.best = Math.max(row.best, row.flops / Number(process.hrtime.bigint() - start));
  }
}
// The memory must live until the last round.
if (memory[0] !== 0.5) throw new Error('a tile wrote over its operands');
for (const shape of shapes) {
  const cells = measured.filter((row) => row.shape === shape).map(({ best }) => best.toFixed(1).padStart(7));
  console.log(`${shape.padEnd(6)} ${cells.join(' ')}  GFLOP/s, unrolled by ${UNROLLS.join(', ')}`);
}

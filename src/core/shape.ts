/**
 * Shapes. A dimension is a number, or a linear expression over named sizes (a `SymDim`) while a model's input sizes are open.
 *
 * A SymDim is in normal form: terms sorted by name, no zero coefficient, at least one term; so equal dims print alike.
 * What is not linear (a floor division by a stride, a product or the smaller of two sizes) becomes a fresh name spelled as its formula, which the
 * term keeps, so that binding its sizes gives a number.
 */
import { Bug } from './errors.ts';

export interface SymDim {
  readonly terms: readonly DimTerm[];
  readonly constant: number;
}
export interface DimTerm {
  readonly name: string;
  readonly coef: number;
  /** What the name stands for where it is not a size of its own. */
  readonly of?: { readonly op: DimOp; readonly a: Dim; readonly b: Dim };
}
export type DimOp = 'mul' | 'floordiv' | 'min' | 'max';
export type Dim = number | SymDim;
export type Shape = readonly Dim[];
export type StaticShape = readonly number[];

export const sym = (name: string, of?: DimTerm['of']): SymDim => ({
  terms: [{ name, coef: 1, ...(of && { of }) }],
  constant: 0,
});
export const isStatic = (shape: Shape): shape is StaticShape => shape.every((d) => typeof d === 'number');

/** a·scaleA + b·scaleB, normalised. */
function combine(a: Dim, scaleA: number, b: Dim, scaleB: number): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a * scaleA + b * scaleB;
  const byName = new Map<string, DimTerm>();
  let constant = 0;
  for (const [dim, scale] of [
    [a, scaleA],
    [b, scaleB],
  ] as const) {
    if (typeof dim === 'number') constant += dim * scale;
    else {
      constant += dim.constant * scale;
      for (const t of dim.terms) byName.set(t.name, { ...t, coef: (byName.get(t.name)?.coef ?? 0) + t.coef * scale });
    }
  }
  const terms = [...byName.values()].filter((t) => t.coef !== 0);
  terms.sort((x, y) => (x.name < y.name ? -1 : x.name > y.name ? 1 : 0));
  return terms.length === 0 ? constant : { terms, constant };
}

export const addDims = (a: Dim, b: Dim): Dim => combine(a, 1, b, 1);
export const subDims = (a: Dim, b: Dim): Dim => combine(a, 1, b, -1);

export function mulDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number') return combine(b, a, 0, 0);
  if (typeof b === 'number') return combine(a, b, 0, 0);
  const [x, y] = [printDim(a), printDim(b)].sort();
  return sym(`(${x})*(${y})`, { op: 'mul', a, b });
}

/** floor(a / b) for b > 0. Exact where every coefficient divides or a is a multiple of b; a fresh name otherwise. */
export function floorDivDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return Math.floor(a / b);
  if (typeof a !== 'number' && typeof b !== 'number') {
    const ratio = a.terms[0].coef / b.terms[0].coef;
    if (dimsEqual(mulDims(ratio, b), a)) return Math.floor(ratio);
  }
  if (typeof b === 'number' && typeof a !== 'number' && a.terms.every((t) => t.coef % b === 0)) {
    return { terms: a.terms.map((t) => ({ ...t, coef: t.coef / b })), constant: Math.floor(a.constant / b) };
  }
  if (b === 1) return a;
  return sym(`floor((${printDim(a)})/(${printDim(b)}))`, { op: 'floordiv', a, b });
}

/** The smaller, or the larger, of two dims. */
function chooseDim(op: 'min' | 'max', a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return op === 'min' ? Math.min(a, b) : Math.max(a, b);
  if (dimsEqual(a, b)) return a;
  const [x, y] = [a, b].sort((p, q) => (printDim(p) < printDim(q) ? -1 : 1));
  return sym(`${op}(${printDim(x)},${printDim(y)})`, { op, a: x, b: y });
}
export const minDims = (a: Dim, b: Dim): Dim => chooseDim('min', a, b);
export const maxDims = (a: Dim, b: Dim): Dim => chooseDim('max', a, b);

export const dimsEqual = (a: Dim, b: Dim): boolean =>
  typeof a === 'number' || typeof b === 'number' ? a === b : printDim(a) === printDim(b);
export const shapesEqual = (a: Shape, b: Shape): boolean =>
  a.length === b.length && a.every((d, i) => dimsEqual(d, b[i]));

/** `2*n+1`, `batch`, `224`. */
export function printDim(dim: Dim): string {
  if (typeof dim === 'number') return String(dim);
  const terms = dim.terms.map((t) => (t.coef === 1 ? t.name : `${t.coef}*${t.name}`)).join('+');
  return (dim.constant === 0 ? terms : `${terms}+${dim.constant}`).replaceAll('+-', '-');
}
export const printShape = (shape: Shape): string => `[${shape.map(printDim).join(',')}]`;

/** The dim with each known size put in; stays symbolic where a name is not in `sizes`. */
export function bindDim(dim: Dim, sizes: ReadonlyMap<string, number>): Dim {
  if (typeof dim === 'number') return dim;
  let out: Dim = dim.constant;
  for (const t of dim.terms) out = combine(out, 1, sizes.get(t.name) ?? bindFormula(t, sizes), t.coef);
  return out;
}

function bindFormula({ name, of }: DimTerm, sizes: ReadonlyMap<string, number>): Dim {
  if (!of) return sym(name);
  const [a, b] = [bindDim(of.a, sizes), bindDim(of.b, sizes)];
  switch (of.op) {
    case 'mul':
      return mulDims(a, b);
    case 'floordiv':
      return b === 0 ? 0 : floorDivDims(a, b);
    case 'min':
    case 'max':
      return chooseDim(of.op, a, b);
    default:
      return of.op satisfies never;
  }
}

/** The names of the sizes that a dim is made of, those inside products and quotients too. */
export function namesIn(dim: Dim): string[] {
  if (typeof dim === 'number') return [];
  return dim.terms.flatMap(({ name, of }) => (of ? [...namesIn(of.a), ...namesIn(of.b)] : [name]));
}

/** Number of elements. */
export const elements = (shape: StaticShape): number => shape.reduce((n, d) => n * d, 1);

/** Row-major strides, in elements. */
export function rowMajorStrides(shape: StaticShape): number[] {
  const strides = new Array<number>(shape.length);
  for (let i = shape.length - 1, s = 1; i >= 0; i--) {
    strides[i] = s;
    s *= shape[i];
  }
  return strides;
}

/** NumPy's broadcast of two shapes; undefined where they do not fit. A symbolic dim against another keeps the first. */
export function broadcastShapes(a: Shape, b: Shape): Shape | undefined {
  const rank = Math.max(a.length, b.length);
  const out: Dim[] = [];
  for (let i = 0; i < rank; i++) {
    const x = a[i - (rank - a.length)] ?? 1;
    const y = b[i - (rank - b.length)] ?? 1;
    if (dimsEqual(x, y) || y === 1) out.push(x);
    else if (x === 1) out.push(y);
    else if (typeof x === 'number' && typeof y === 'number') return undefined;
    else out.push(typeof x === 'number' ? x : y);
  }
  return out;
}

/** An axis counted from the end made positive; undefined outside [-rank, rank). */
export const normalizeAxis = (axis: number, rank: number): number | undefined =>
  axis >= -rank && axis < rank ? (axis < 0 ? axis + rank : axis) : undefined;

/** The shape as numbers. Throws Bug where a dim is still open: callers bind the symbols first. */
export function staticShape(shape: Shape): StaticShape {
  if (!isStatic(shape)) throw new Bug('shape-open', `shape ${printShape(shape)} still has symbolic dims here`);
  return shape;
}

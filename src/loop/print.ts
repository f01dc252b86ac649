/**
 * Kernels as text, read back by parse.ts without loss. The text without the kernel's name is its identity: equal text, equal kernel.
 *
 *     kernel map_f32 = map (in x: f32[128], out y: f32[128]) for i < 128 {
 *       y[i] = max(x[i], 0)
 *     }
 *
 * An axis whose end is a size known at run time only reads `i < 128 upto sizes[0]`, a scan that may end early `scan i < 31 while i < n`. A constant carries its dtype (`0:f32`) only where the
 * neighbours do not tell. A contract prints its accesses and its epilogue, an attend its accesses, its score and its epilogue; the rest
 * follows from them. A large subexpression that occurs again is written once, `(#1 = …)`, then `#1`; whether two
 * subexpressions are the same is decided by what they say, so text does not depend on how objects are shared.
 */
import { type DType, isFloat, type Scalar } from '../core/dtype.ts';
import { children, conditionOf } from './expr.ts';
import type { Access, Affine, Axis, BinaryOp, Expr, Kernel, Stmt } from './ir.ts';
import { Structure } from './structure.ts';

/** Infix operators with their precedence; a higher one binds tighter, all associate to the left. The others are calls. */
export const INFIX: { readonly [op in BinaryOp]?: { readonly sign: string; readonly precedence: number } } = {
  or: { sign: '||', precedence: 1 },
  and: { sign: '&&', precedence: 2 },
  eq: { sign: '==', precedence: 3 },
  ne: { sign: '!=', precedence: 3 },
  lt: { sign: '<', precedence: 3 },
  le: { sign: '<=', precedence: 3 },
  gt: { sign: '>', precedence: 3 },
  ge: { sign: '>=', precedence: 3 },
  bitor: { sign: '|', precedence: 4 },
  bitxor: { sign: '^', precedence: 5 },
  bitand: { sign: '&', precedence: 6 },
  shl: { sign: '<<', precedence: 7 },
  shr: { sign: '>>', precedence: 7 },
  add: { sign: '+', precedence: 8 },
  sub: { sign: '-', precedence: 8 },
  mul: { sign: '*', precedence: 9 },
  div: { sign: '/', precedence: 9 },
  floordiv: { sign: '//', precedence: 9 },
  mod: { sign: '%', precedence: 9 },
};
export const PREFIX = { neg: '-', not: '!', bitnot: '~' } as const;
const PREFIX_PRECEDENCE = 10;

/** Operators whose result is bool while their operands need not be. */
export const COMPARES: ReadonlySet<BinaryOp> = new Set(['eq', 'ne', 'lt', 'le', 'gt', 'ge']);

/** Words that a name must be quoted to be. */
export const RESERVED: ReadonlySet<string> = new Set(
  'true false inf nan for scan if let reduce over of in out pad stride upto while kernel'.split(' '),
);

/** Tree nodes from which on a repeated subexpression gets a label. */
const LABEL_SIZE = 16;

export const printName = (name: string): string =>
  /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !RESERVED.has(name) ? name : JSON.stringify(name);

/** The identity of a kernel: its text without its name. */
export const kernelKey = (kernel: Kernel): string => printKernel({ ...kernel, name: '' });

export const printKernel = (kernel: Kernel): string =>
  kernelLines(kernel)
    .map((line) => line.text)
    .join('\n');

/** A line of a printed kernel, and the statement that it is the first line of. */
export interface KernelLine {
  readonly text: string;
  readonly stmt?: Stmt;
}

/** The lines of the text, for those who mark some of them. */
export function kernelLines(kernel: Kernel): readonly KernelLine[] {
  const { form } = kernel;
  const buffers = kernel.buffers.map((b) => `${b.role} ${printName(b.name)}: ${b.dtype}[${b.elements}]`).join(', ');
  const head = `kernel ${printName(kernel.name)} = ${printFormHead(kernel)} (${buffers})`;
  if (form.kind !== 'contract' && form.kind !== 'attend') {
    return [{ text: `${head}${printAxes(kernel.axes)} {` }, ...stmtLines(kernel.body, '  '), { text: '}' }];
  }
  const axes = form.axes.map((a) => `${a.role} ${printAxis(a)}`).join(', ');
  const first = { text: axes === '' ? head : `${head} for ${axes}` };
  const epilogue = [...stmtLines(form.epilogue, '  '), { text: '}' }];
  if (form.kind === 'contract')
    return [first, { text: `  a ${printAccess(form.a)}` }, { text: `  b ${printAccess(form.b)} {` }, ...epilogue];
  return [
    first,
    { text: `  q ${printAccess(form.q)}` },
    { text: `  k ${printAccess(form.k)}` },
    { text: `  v ${printAccess(form.v)} {` },
    ...stmtLines(form.score, '  '),
    { text: '} {' },
    ...epilogue,
  ];
}

function printFormHead({ form }: Kernel): string {
  switch (form.kind) {
    case 'map':
    case 'move':
    case 'reduce':
      return form.kind;
    case 'attend':
      return `attend ${form.acc} ${form.empty}`;
    case 'contract':
      return `contract ${form.acc}`;
    case 'routine':
      return `routine ${printName(form.name)}`;
    default:
      return form satisfies never;
  }
}

/** `i < 128`, or `i < 128 upto sizes[3]` */
const printAxis = (axis: Axis): string => `${printName(axis.name)} < ${printEnd(axis)}`;
const printEnd = ({ extent, limit }: Pick<Axis, 'extent' | 'limit'>): string =>
  limit ? `${extent} upto ${printExpr(limit, 'i32')}` : String(extent);
const printAxes = (axes: readonly Axis[]): string =>
  axes.length === 0 ? '' : ` for ${axes.map(printAxis).join(', ')}`;

/** `x[2*h + r - 1 < 224 stride 672 pad, …]` */
const printAccess = (access: Access): string =>
  `${printName(access.buffer)}[${access.dims
    .map((d) => `${printAffine(d.at)} < ${printEnd(d)} stride ${d.stride}${d.padded ? ' pad' : ''}`)
    .join(', ')}]`;

function printAffine(affine: Affine): string {
  const parts = affine.terms.map(({ axis, coef }) => (coef === 1 ? printName(axis) : `${coef}*${printName(axis)}`));
  if (affine.constant !== 0 || parts.length === 0) parts.push(String(affine.constant));
  return parts.join(' + ').replaceAll('+ -', '- ');
}

function stmtLines(body: readonly Stmt[], indent: string): KernelLine[] {
  return body.flatMap((stmt): KernelLine[] => {
    const block = (head: string, inner: readonly Stmt[]): KernelLine[] => [
      { text: `${indent}${head} {`, stmt },
      ...stmtLines(inner, `${indent}  `),
      { text: `${indent}}` },
    ];
    switch (stmt.kind) {
      case 'for':
      case 'scan': {
        const condition = conditionOf(stmt);
        const asked = condition ? ` while ${printExpr(condition, 'bool')}` : '';
        return block(`${stmt.kind} ${printAxis(stmt.axis)}${asked}`, stmt.body);
      }
      case 'if':
        return block(`if ${printExpr(stmt.cond, 'bool')}`, stmt.body);
      case 'let': {
        const value = printExpr(stmt.value, stmt.dtype);
        return [{ text: `${indent}let ${printName(stmt.local)}: ${stmt.dtype} = ${value}`, stmt }];
      }
      case 'reduce': {
        const over = stmt.axes.length === 0 ? '' : ` over ${stmt.axes.map(printAxis).join(', ')}`;
        const value = printExpr(stmt.value, stmt.dtype);
        const head = `${indent}reduce ${printName(stmt.local)}: ${stmt.dtype} = ${stmt.op}${over} of`;
        return [{ text: `${head} ${value}`, stmt }];
      }
      case 'store': {
        // The buffer's dtype is the value's in a valid kernel; parse reads it from the buffer.
        const value = printExpr(stmt.value, stmt.value.dtype);
        return [{ text: `${indent}${printName(stmt.buffer)}[${printExpr(stmt.index, 'i32')}] = ${value}`, stmt }];
      }
      default:
        return stmt satisfies never;
    }
  });
}

function printScalar(dtype: DType, value: Scalar): string {
  if (dtype === 'bool') return value ? 'true' : 'false';
  if (typeof value === 'bigint') return String(value);
  if (!isFloat(dtype)) return String(value + 0);
  if (Number.isNaN(value)) return 'nan';
  if (Math.abs(value) === Number.POSITIVE_INFINITY) return value < 0 ? '-inf' : 'inf';
  return Object.is(value, -0) ? '-0' : String(value);
}

/** The expression as text. `expected` is the dtype that the surroundings give it; without, the text tells it alone. */
export function printExpr(expr: Expr, expected?: DType): string {
  return new ExprPrinter(expr).print(expr, expected, 0);
}

/** One expression's text: finds repeated subexpressions first, then writes. */
class ExprPrinter {
  readonly #structure = new Structure();
  /** By id: size as a tree, number of mentions, whether the bare text tells its dtype. */
  readonly #sizes: number[] = [];
  readonly #mentions: number[] = [];
  readonly #bare: boolean[] = [];
  readonly #labels = new Map<number, number>();

  constructor(root: Expr) {
    this.#visit(root);
  }

  #visit(e: Expr): number {
    const id = this.#structure.id(e);
    if (this.#sizes[id] !== undefined) return id;
    for (const child of children(e)) this.#visit(child);
    const operands = this.#structure.operands(id);
    this.#sizes[id] = operands.reduce((n, operand) => n + this.#sizes[operand], 1);
    this.#mentions[id] = 0;
    for (const operand of operands) this.#mentions[operand]++;
    this.#bare[id] = this.#tellsDtype(e, operands);
    return id;
  }

  #tellsDtype(e: Expr, operands: readonly number[]): boolean {
    const [first, second, third] = operands.map((operand) => this.#bare[operand]);
    switch (e.kind) {
      case 'const':
        return e.dtype === 'bool';
      case 'unary':
        return e.dtype === 'bool' || first;
      case 'binary':
        return e.dtype === 'bool' || first || second;
      case 'select':
        return second || third;
      default:
        return true;
    }
  }

  print(e: Expr, expected: DType | undefined, precedence: number): string {
    const id = this.#visit(e);
    if (this.#mentions[id] < 2 || this.#sizes[id] < LABEL_SIZE) return this.#printNode(e, expected, precedence);
    const label = this.#labels.get(id);
    if (label !== undefined) return `#${label}`;
    const fresh = this.#labels.size + 1;
    this.#labels.set(id, fresh);
    const text = this.#printNode(e, undefined, 0);
    this.#bare[id] = true;
    return `(#${fresh} = ${text})`;
  }

  #printNode(e: Expr, expected: DType | undefined, precedence: number): string {
    const paren = (text: string, own: number): string => (own < precedence ? `(${text})` : text);
    switch (e.kind) {
      case 'const': {
        const text = printScalar(e.dtype, e.value);
        return e.dtype === expected || e.dtype === 'bool' ? text : `${text}:${e.dtype}`;
      }
      case 'axis':
      case 'local':
        return printName(e.name);
      case 'load':
        return `${printName(e.buffer)}[${this.print(e.index, 'i32', 0)}]`;
      case 'unary': {
        const predicate = e.op === 'isnan' || e.op === 'isinf';
        const inner = predicate ? undefined : expected;
        if (e.op !== 'neg' && e.op !== 'not' && e.op !== 'bitnot') return `${e.op}(${this.print(e.x, inner, 0)})`;
        const x = this.print(e.x, inner, PREFIX_PRECEDENCE);
        // `-3` and `--` read as something else.
        return paren(`${PREFIX[e.op]}${e.x.kind === 'const' || /^[-~!]/.test(x) ? `(${x})` : x}`, PREFIX_PRECEDENCE);
      }
      case 'binary': {
        const infix = INFIX[e.op];
        const [a, b] = this.#printPair(e, expected, infix?.precedence ?? 0);
        return infix ? paren(`${a} ${infix.sign} ${b}`, infix.precedence) : `${e.op}(${a}, ${b})`;
      }
      case 'select': {
        const cond = this.print(e.cond, 'bool', 0);
        const [a, b] = this.#printAlike(e.a, e.b, e.dtype, expected, 0, 0);
        return `select(${cond}, ${a}, ${b})`;
      }
      case 'cast':
        return `${e.dtype}(${this.print(e.x, undefined, 0)})`;
      case 'bitcast':
        return `bitcast(${e.dtype}, ${this.print(e.x, undefined, 0)})`;
      default:
        return e satisfies never;
    }
  }

  #printPair(e: Extract<Expr, { kind: 'binary' }>, expected: DType | undefined, precedence: number): [string, string] {
    const outer = COMPARES.has(e.op) ? undefined : expected;
    const right = precedence === 0 ? 0 : precedence + 1;
    return this.#printAlike(e.a, e.b, e.a.dtype, outer, precedence, right);
  }

  /** Two operands of one dtype: what the outside or one of them tells, the other need not say. */
  #printAlike(
    a: Expr,
    b: Expr,
    dtype: DType,
    expected: DType | undefined,
    left: number,
    right: number,
  ): [string, string] {
    const told = expected ?? (this.#bare[this.#visit(a)] || this.#bare[this.#visit(b)] ? dtype : undefined);
    const first = this.print(a, told, left);
    return [first, this.print(b, told ?? dtype, right)];
  }
}

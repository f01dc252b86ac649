/**
 * Expressions of a printed kernel. Each is parsed without dtypes first; then dtypes flow from what the text tells (loads, locals,
 * casts, suffixes of constants) to what it leaves out.
 */
import { DTYPES, type DType, isBigInt, isDType, isFloat } from '../core/dtype.ts';
import { BINARY_OPS, type BinaryOp, type Buffer, type Expr, UNARY_OPS, type UnaryOp } from './ir.ts';
import { COMPARES, INFIX, PREFIX } from './print.ts';
import { MAX_DEPTH, type TokenReader } from './tokens.ts';

/** Nodes of all expressions of a kernel, each label counted as often as it stands. */
const MAX_NODES = 1 << 18;

/** An expression before its dtype is known: `type` is what its text tells, `build` makes it, given what the surroundings tell. */
interface Untyped {
  readonly type: DType | undefined;
  readonly depth: number;
  readonly nodes: number;
  build(expected: DType | undefined): Expr;
}

const INFIX_BY_SIGN = new Map(
  Object.entries(INFIX).map(([op, row]) => [row.sign, { op: op as BinaryOp, precedence: row.precedence }]),
);
const PREFIX_BY_SIGN = new Map(Object.entries(PREFIX).map(([op, sign]) => [sign as string, op as UnaryOp]));
const LOGIC: ReadonlySet<BinaryOp> = new Set(['and', 'or', 'xor']);
const PREDICATES: ReadonlySet<UnaryOp> = new Set(['isnan', 'isinf']);
export class ExprParser {
  /** Names that expressions may load from, and the dtype of each local so far; any other name is an axis. */
  buffers: readonly Buffer[] = [];
  readonly locals = new Map<string, DType>();
  readonly #tokens: TokenReader;
  #nodes = 0;
  #labels = new Map<number, Untyped>();

  constructor(tokens: TokenReader) {
    this.#tokens = tokens;
  }

  /** The dtype of a buffer; fails where there is none of that name. */
  bufferDType(name: string): DType {
    const buffer = this.buffers.find((b) => b.name === name);
    return buffer ? buffer.dtype : this.#tokens.fail(`the kernel has no buffer ${JSON.stringify(name)}`);
  }

  /** The expression that is next, of the dtype that its place gives it. */
  expr(expected: DType): Expr {
    this.#labels = new Map();
    const untyped = this.#infix(1);
    this.#nodes += untyped.nodes;
    if (this.#nodes > MAX_NODES) this.#tokens.fail(`more than ${MAX_NODES} expression nodes`);
    return untyped.build(expected);
  }

  /** A node over parsed operands; counts its depth and size. */
  #node(type: DType | undefined, kids: readonly Untyped[], build: Untyped['build']): Untyped {
    const depth = 1 + Math.max(0, ...kids.map((kid) => kid.depth));
    const nodes = kids.reduce((n, kid) => n + kid.nodes, 1);
    if (depth > MAX_DEPTH) this.#tokens.fail(`nested deeper than ${MAX_DEPTH}`);
    if (nodes > MAX_NODES) this.#tokens.fail(`more than ${MAX_NODES} expression nodes`);
    return { type, depth, nodes, build };
  }

  #infix(least: number): Untyped {
    let left = this.#tokens.nested(() => this.#prefix());
    for (;;) {
      const row = this.#tokens.token.kind === 'sign' ? INFIX_BY_SIGN.get(this.#tokens.token.text) : undefined;
      if (!row || row.precedence < least) return left;
      this.#tokens.advance();
      left = this.#binary(
        row.op,
        left,
        this.#tokens.nested(() => this.#infix(row.precedence + 1)),
      );
    }
  }

  #prefix(): Untyped {
    const op = this.#tokens.token.kind === 'sign' ? PREFIX_BY_SIGN.get(this.#tokens.token.text) : undefined;
    if (!op) return this.#atom();
    this.#tokens.advance();
    const constant = op === 'neg' && (this.#tokens.token.kind === 'number' || this.#tokens.token.text === 'inf');
    return constant
      ? this.#constant('-')
      : this.#unary(
          op,
          this.#tokens.nested(() => this.#prefix()),
        );
  }

  #atom(): Untyped {
    const { kind, text, at } = this.#tokens.token;
    const call = kind === 'word' && this.#tokens.ahead(1).text === '(' ? text : undefined;
    if (kind === 'number' || (kind === 'word' && (text === 'inf' || text === 'nan'))) return this.#constant('');
    if (kind === 'word' && (text === 'true' || text === 'false')) {
      this.#tokens.advance();
      return this.#node('bool', [], () => ({ kind: 'const', dtype: 'bool', value: text === 'true' ? 1 : 0 }));
    }
    if (this.#tokens.take('(')) {
      // `(#1 = …)` gives a label, `(#1 + …)` only starts with one.
      const inner = this.#tokens.ahead(2).text === '=' && this.#tokens.take('#') ? this.#labelled() : this.#infix(1);
      this.#tokens.expect(')');
      return inner;
    }
    if (this.#tokens.take('#')) {
      const label = this.#labels.get(this.#tokens.count());
      return label ?? this.#tokens.fail('a label is used before it is given');
    }
    if (call !== undefined) return this.#call(call);
    if (!this.#tokens.isName()) throw this.#tokens.error(at, `expected an expression, got ${text.slice(0, 40)}`);
    const name = this.#tokens.name();
    if (this.#tokens.take('[')) {
      const dtype = this.bufferDType(name);
      const index = this.#infix(1);
      this.#tokens.expect(']');
      return this.#node(dtype, [index], () => ({ kind: 'load', dtype, buffer: name, index: index.build('i32') }));
    }
    const dtype = this.locals.get(name);
    if (dtype) return this.#node(dtype, [], () => ({ kind: 'local', dtype, name }));
    return this.#node('i32', [], () => ({ kind: 'axis', dtype: 'i32', name }));
  }

  #labelled(): Untyped {
    const label = this.#tokens.count();
    this.#tokens.expect('=');
    const inner = this.#infix(1);
    let built: Expr | undefined;
    const once: Untyped = {
      ...inner,
      build: (expected) => {
        built ??= inner.build(expected);
        return built;
      },
    };
    this.#labels.set(label, once);
    return once;
  }

  #call(callee: string): Untyped {
    this.#tokens.advance();
    this.#tokens.expect('(');
    const to = callee === 'bitcast' ? this.#tokens.dtype() : undefined;
    if (to) this.#tokens.expect(',');
    const args = this.#tokens.list(() => this.#infix(1));
    this.#tokens.expect(')');
    const arity = (n: number) =>
      args.length === n || this.#tokens.fail(`${callee} takes ${n} operands, got ${args.length}`);
    const [x, y, z] = args;
    if (isDType(callee) || to) {
      arity(1);
      const dtype = to ?? (callee as DType);
      return this.#node(dtype, args, () => {
        const operand = x.build(undefined);
        return to ? { kind: 'bitcast', dtype, x: operand } : { kind: 'cast', dtype, x: operand };
      });
    }
    if (callee === 'select') {
      arity(3);
      const type = y.type ?? z.type;
      return this.#node(type, args, (expected) => {
        const [cond, a, b] = [x.build('bool'), y.build(type ?? expected), z.build(type ?? expected)];
        return { kind: 'select', dtype: a.dtype, cond, a, b };
      });
    }
    if (UNARY_OPS.has(callee as UnaryOp)) {
      arity(1);
      return this.#unary(callee as UnaryOp, x);
    }
    if (!BINARY_OPS.has(callee as BinaryOp)) this.#tokens.fail(`no operation ${callee}`);
    arity(2);
    return this.#binary(callee as BinaryOp, x, y);
  }

  #unary(op: UnaryOp, x: Untyped): Untyped {
    if (op === 'not') return this.#node('bool', [x], () => ({ kind: 'unary', dtype: 'bool', op, x: x.build('bool') }));
    if (PREDICATES.has(op))
      return this.#node('bool', [x], () => ({ kind: 'unary', dtype: 'bool', op, x: x.build(undefined) }));
    return this.#node(x.type, [x], (expected) => {
      const operand = x.build(expected);
      return { kind: 'unary', dtype: operand.dtype, op, x: operand };
    });
  }

  #binary(op: BinaryOp, a: Untyped, b: Untyped): Untyped {
    const told = LOGIC.has(op) ? 'bool' : (a.type ?? b.type);
    const type = LOGIC.has(op) || COMPARES.has(op) ? 'bool' : told;
    return this.#node(type, [a, b], (expected) => {
      const operands = told ?? (COMPARES.has(op) ? undefined : expected);
      const [left, right] = [a.build(operands), b.build(operands)];
      return { kind: 'binary', dtype: type ?? left.dtype, op, a: left, b: right };
    });
  }

  /** A number, `inf` or `nan`, with `:dtype` where its place does not tell. */
  #constant(sign: '' | '-'): Untyped {
    const { text, at } = this.#tokens.advance();
    const suffix = this.#tokens.take(':') ? this.#tokens.dtype() : undefined;
    return this.#node(suffix, [], (expected) => {
      const dtype = suffix ?? expected;
      if (!dtype) throw this.#tokens.error(at, `the dtype of ${sign}${text} is not told`);
      return { kind: 'const', dtype, value: this.#scalar(dtype, sign, text, at) };
    });
  }

  #scalar(dtype: DType, sign: '' | '-', text: string, at: number): number | bigint {
    const size = text === 'inf' ? Number.POSITIVE_INFINITY : text === 'nan' ? Number.NaN : Number(text);
    if (isFloat(dtype)) return sign ? -size : size;
    if (dtype === 'bool' || !/^\d{1,20}$/.test(text)) throw this.#tokens.error(at, `${sign}${text} is no ${dtype}`);
    const value = isBigInt(dtype) ? BigInt(sign + text) : Number(sign + text) + 0;
    if (value < DTYPES[dtype].min || value > DTYPES[dtype].max)
      throw this.#tokens.error(at, `${sign}${text} is out of range of ${dtype}`);
    return value;
  }
}

/**
 * The text of a kernel back to the kernel; the inverse of print.ts, which describes the form.
 *
 * The text may come from a stranger's file: whatever it is, the answer is a kernel or ModelError `engine-parse` with a line number,
 * in time and stack bounded by limits on nesting and size. What parses is well formed; whether it is valid is verify.ts's to say.
 */
import { DTYPES, type DType, isBigInt, isDType, isFloat } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { contractKernel } from './contract.ts';
import type {
  Access,
  AccessDim,
  Affine,
  Axis,
  BinaryOp,
  Buffer,
  Contract,
  Expr,
  Form,
  Kernel,
  ReduceOp,
  Stmt,
  UnaryOp,
} from './ir.ts';
import { BINARY_OPS, UNARY_OPS } from './ir.ts';
import { COMPARES, INFIX, PREFIX, RESERVED } from './print.ts';

/** Nesting of statements, parentheses and operands. */
const MAX_DEPTH = 1000;
/** Nodes of all expressions of a kernel, each label counted as often as it stands. */
const MAX_NODES = 1 << 18;
/** Dims of an access, and terms of a coordinate. */
const MAX_TERMS = 64;
const MAX_INT = 2 ** 31 - 1;

const TOKEN =
  /\s+|([A-Za-z_][A-Za-z0-9_]*)|("[^"\\\n]*(?:\\.[^"\\\n]*)*")|(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(\/\/|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%<>=!~&|^(){}[\],:#])/y;

interface Token {
  readonly kind: 'word' | 'string' | 'number' | 'sign' | 'end';
  readonly text: string;
  readonly at: number;
}

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
const REDUCE_OPS: ReadonlySet<string> = new Set<ReduceOp>(['add', 'mul', 'min', 'max']);
const ROLES: ReadonlySet<string> = new Set(['batch', 'm', 'n', 'k']);

/** Throws ModelError `engine-parse` and nothing else. */
export function parseKernel(text: string): Kernel {
  return new KernelParser(text).kernel();
}

class KernelParser {
  private readonly text: string;
  private readonly tokens: readonly Token[];
  private next = 0;
  private depth = 0;
  private nodes = 0;
  private buffers: readonly Buffer[] = [];
  private readonly locals = new Map<string, DType>();
  private labels = new Map<number, Untyped>();

  constructor(text: string) {
    this.text = text;
    this.tokens = this.lex();
  }

  private lex(): Token[] {
    const tokens: Token[] = [];
    TOKEN.lastIndex = 0;
    for (let at = 0; at < this.text.length; at = TOKEN.lastIndex) {
      const match = TOKEN.exec(this.text);
      if (!match) throw this.error(at, `unexpected ${JSON.stringify(this.text[at])}`);
      const [, word, string, number, sign] = match;
      if (word !== undefined) tokens.push({ kind: 'word', text: word, at });
      else if (string !== undefined) tokens.push({ kind: 'string', text: string, at });
      else if (number !== undefined) tokens.push({ kind: 'number', text: number, at });
      else if (sign !== undefined) tokens.push({ kind: 'sign', text: sign, at });
    }
    tokens.push({ kind: 'end', text: 'the end', at: this.text.length });
    return tokens;
  }

  private error(at: number, message: string): ModelError {
    const line = this.text.slice(0, at).split('\n').length;
    return new ModelError('engine-parse', `kernel text, line ${line}: ${message}`);
  }
  private fail(message: string): never {
    throw this.error(this.tokens[Math.max(0, this.next - 1)].at, message);
  }

  private get token(): Token {
    return this.tokens[this.next];
  }
  /** Takes the token where it is this sign or word. */
  private take(text: string): boolean {
    const { kind, text: got } = this.token;
    if (got !== text || (kind !== 'sign' && kind !== 'word')) return false;
    this.next++;
    return true;
  }
  private expect(text: string): void {
    if (!this.take(text)) throw this.error(this.token.at, `expected "${text}", got ${this.token.text.slice(0, 40)}`);
  }
  private isName(): boolean {
    const { kind, text } = this.token;
    return kind === 'string' || (kind === 'word' && !RESERVED.has(text));
  }
  private name(): string {
    if (!this.isName()) throw this.error(this.token.at, `expected a name, got ${this.token.text.slice(0, 40)}`);
    const { kind, text } = this.tokens[this.next++];
    if (kind === 'word') return text;
    try {
      return JSON.parse(text) as string;
    } catch {
      return this.fail('a quoted name has a bad escape');
    }
  }
  private word(what: string, allowed: (text: string) => boolean): string {
    const { kind, text, at } = this.token;
    if (kind !== 'word' || !allowed(text)) throw this.error(at, `expected ${what}, got ${text.slice(0, 40)}`);
    this.next++;
    return text;
  }
  private dtype(): DType {
    return this.word('a dtype', isDType) as DType;
  }
  private int(): number {
    const negative = this.take('-');
    const { kind, text, at } = this.token;
    const value = Number(text);
    if (kind !== 'number' || !Number.isInteger(value) || value > MAX_INT) throw this.error(at, 'expected an integer');
    this.next++;
    return negative && value !== 0 ? -value : value;
  }
  private count(): number {
    const value = this.int();
    return value < 0 ? this.fail('expected no negative number') : value;
  }
  private list<T>(item: () => T): T[] {
    const items = [item()];
    while (this.take(',')) items.push(item());
    return items;
  }
  private nested<T>(parse: () => T): T {
    if (++this.depth > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH}`);
    const result = parse();
    this.depth--;
    return result;
  }

  kernel(): Kernel {
    this.expect('kernel');
    const name = this.name();
    this.expect('=');
    const kind = this.word('a form', (t) => /^(map|move|reduce|attend|routine|contract)$/.test(t)) as Form['kind'];
    const acc = kind === 'contract' ? this.dtype() : 'f32';
    const routine = kind === 'routine' ? this.name() : '';
    this.expect('(');
    if (!this.take(')')) {
      this.buffers = this.list(() => this.buffer());
      this.expect(')');
    }
    const kernel =
      kind === 'contract'
        ? contractKernel(name, this.buffers, this.contract(acc))
        : this.plainKernel(name, kind === 'routine' ? { kind, name: routine } : { kind });
    if (this.token.kind !== 'end') throw this.error(this.token.at, 'text after the kernel');
    return kernel;
  }

  private plainKernel(name: string, form: Form): Kernel {
    const axes = this.take('for') ? this.list(() => this.axis()) : [];
    return { name, form, buffers: this.buffers, axes, body: this.block() };
  }

  private buffer(): Buffer {
    const role = this.word('"in" or "out"', (t) => t === 'in' || t === 'out') as Buffer['role'];
    const name = this.name();
    this.expect(':');
    const dtype = this.dtype();
    this.expect('[');
    const elements = this.count();
    this.expect(']');
    return { name, dtype, elements, role };
  }

  private axis(): Axis {
    const name = this.name();
    this.expect('<');
    return { name, extent: this.count() };
  }

  private contract(acc: DType): Contract {
    const axes = this.take('for')
      ? this.list(() => {
          const role = this.word('a role', (t) => ROLES.has(t)) as Contract['axes'][number]['role'];
          return { ...this.axis(), role };
        })
      : [];
    this.expect('a');
    const a = this.access();
    this.expect('b');
    const b = this.access();
    this.locals.set('acc', acc);
    return { kind: 'contract', axes, a, b, acc, epilogue: this.block() };
  }

  private access(): Access {
    const buffer = this.name();
    if (!this.buffers.some((b) => b.name === buffer)) this.fail(`the kernel has no buffer ${JSON.stringify(buffer)}`);
    this.expect('[');
    if (this.take(']')) return { buffer, dims: [] };
    const dims = this.list(() => this.accessDim());
    this.expect(']');
    if (dims.length > MAX_TERMS) this.fail(`more than ${MAX_TERMS} dims`);
    return { buffer, dims };
  }

  private accessDim(): AccessDim {
    const at = this.affine();
    this.expect('<');
    const extent = this.count();
    this.expect('stride');
    const stride = this.int();
    return { at, extent, stride, padded: this.take('pad') };
  }

  /** `2*h - r + 1`: signed terms, then the constant. */
  private affine(): Affine {
    const terms: { axis: string; coef: number }[] = [];
    let constant = 0;
    for (let first = true; ; first = false) {
      const minus = this.take('-');
      if (!first && !minus && !this.take('+')) break;
      const sign = minus ? -1 : 1;
      if (this.isName()) terms.push({ axis: this.name(), coef: sign });
      else {
        const value = sign * this.int();
        if (this.take('*')) terms.push({ axis: this.name(), coef: value });
        else constant = value === 0 ? 0 : value;
      }
      if (terms.length > MAX_TERMS) this.fail(`more than ${MAX_TERMS} terms`);
    }
    return { terms, constant };
  }

  private block(): Stmt[] {
    this.expect('{');
    return this.nested(() => {
      const body: Stmt[] = [];
      while (!this.take('}')) body.push(this.stmt());
      return body;
    });
  }

  private stmt(): Stmt {
    if (this.take('for')) return { kind: 'for', axis: this.axis(), body: this.block() };
    if (this.take('scan')) return { kind: 'scan', axis: this.axis(), body: this.block() };
    if (this.take('if')) return { kind: 'if', cond: this.expr('bool'), body: this.block() };
    if (this.take('let')) {
      const [local, dtype] = this.declaration();
      const value = this.expr(dtype);
      this.locals.set(local, dtype);
      return { kind: 'let', local, dtype, value };
    }
    if (this.take('reduce')) {
      const [local, dtype] = this.declaration();
      const op = this.word('a reduction', (t) => REDUCE_OPS.has(t)) as ReduceOp;
      const axes = this.take('over') ? this.list(() => this.axis()) : [];
      this.expect('of');
      const value = this.expr(dtype);
      this.locals.set(local, dtype);
      return { kind: 'reduce', local, dtype, op, axes, value };
    }
    const buffer = this.name();
    this.expect('[');
    const index = this.expr('i32');
    this.expect(']');
    this.expect('=');
    return { kind: 'store', buffer, index, value: this.expr(this.bufferDType(buffer)) };
  }

  private declaration(): [string, DType] {
    const local = this.name();
    this.expect(':');
    const dtype = this.dtype();
    this.expect('=');
    return [local, dtype];
  }

  private bufferDType(name: string): DType {
    const buffer = this.buffers.find((b) => b.name === name);
    return buffer ? buffer.dtype : this.fail(`the kernel has no buffer ${JSON.stringify(name)}`);
  }

  private expr(expected: DType): Expr {
    this.labels = new Map();
    const untyped = this.infix(1);
    this.nodes += untyped.nodes;
    if (this.nodes > MAX_NODES) this.fail(`more than ${MAX_NODES} expression nodes`);
    return untyped.build(expected);
  }

  /** A node over parsed operands; counts its depth and size. */
  private node(type: DType | undefined, kids: readonly Untyped[], build: Untyped['build']): Untyped {
    const depth = 1 + Math.max(0, ...kids.map((kid) => kid.depth));
    const nodes = kids.reduce((n, kid) => n + kid.nodes, 1);
    if (depth > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH}`);
    if (nodes > MAX_NODES) this.fail(`more than ${MAX_NODES} expression nodes`);
    return { type, depth, nodes, build };
  }

  private infix(least: number): Untyped {
    let left = this.nested(() => this.prefix());
    for (;;) {
      const row = this.token.kind === 'sign' ? INFIX_BY_SIGN.get(this.token.text) : undefined;
      if (!row || row.precedence < least) return left;
      this.next++;
      left = this.binary(
        row.op,
        left,
        this.nested(() => this.infix(row.precedence + 1)),
      );
    }
  }

  private prefix(): Untyped {
    const op = this.token.kind === 'sign' ? PREFIX_BY_SIGN.get(this.token.text) : undefined;
    if (!op) return this.atom();
    this.next++;
    const constant = op === 'neg' && (this.token.kind === 'number' || this.token.text === 'inf');
    return constant
      ? this.constant('-')
      : this.unary(
          op,
          this.nested(() => this.prefix()),
        );
  }

  private atom(): Untyped {
    const { kind, text, at } = this.token;
    const call = kind === 'word' && this.tokens[this.next + 1].text === '(' ? text : undefined;
    if (kind === 'number' || (kind === 'word' && (text === 'inf' || text === 'nan'))) return this.constant('');
    if (kind === 'word' && (text === 'true' || text === 'false')) {
      this.next++;
      return this.node('bool', [], () => ({ kind: 'const', dtype: 'bool', value: text === 'true' ? 1 : 0 }));
    }
    if (this.take('(')) {
      const inner = this.take('#') ? this.labelled() : this.infix(1);
      this.expect(')');
      return inner;
    }
    if (this.take('#')) {
      const label = this.labels.get(this.count());
      return label ?? this.fail('a label is used before it is given');
    }
    if (call !== undefined) return this.call(call);
    if (!this.isName()) throw this.error(at, `expected an expression, got ${text.slice(0, 40)}`);
    const name = this.name();
    if (this.take('[')) {
      const dtype = this.bufferDType(name);
      const index = this.infix(1);
      this.expect(']');
      return this.node(dtype, [index], () => ({ kind: 'load', dtype, buffer: name, index: index.build('i32') }));
    }
    const dtype = this.locals.get(name);
    if (dtype) return this.node(dtype, [], () => ({ kind: 'local', dtype, name }));
    return this.node('i32', [], () => ({ kind: 'axis', dtype: 'i32', name }));
  }

  private labelled(): Untyped {
    const label = this.count();
    this.expect('=');
    const inner = this.infix(1);
    let built: Expr | undefined;
    const once: Untyped = {
      ...inner,
      build: (expected) => {
        built ??= inner.build(expected);
        return built;
      },
    };
    this.labels.set(label, once);
    return once;
  }

  private call(callee: string): Untyped {
    this.next += 2;
    const args: Untyped[] = [];
    const to = callee === 'bitcast' ? this.dtype() : undefined;
    if (to) this.expect(',');
    args.push(...this.list(() => this.infix(1)));
    this.expect(')');
    const arity = (n: number) => args.length === n || this.fail(`${callee} takes ${n} operands, got ${args.length}`);
    const [x, y, z] = args;
    if (isDType(callee) || to) {
      arity(1);
      const dtype = to ?? (callee as DType);
      return this.node(dtype, args, () => {
        const operand = x.build(undefined);
        return to ? { kind: 'bitcast', dtype, x: operand } : { kind: 'cast', dtype, x: operand };
      });
    }
    if (callee === 'select') {
      arity(3);
      const type = y.type ?? z.type;
      return this.node(type, args, (expected) => {
        const [cond, a, b] = [x.build('bool'), y.build(type ?? expected), z.build(type ?? expected)];
        return { kind: 'select', dtype: a.dtype, cond, a, b };
      });
    }
    if (UNARY_OPS.has(callee as UnaryOp)) {
      arity(1);
      return this.unary(callee as UnaryOp, x);
    }
    if (!BINARY_OPS.has(callee as BinaryOp)) this.fail(`no operation ${callee}`);
    arity(2);
    return this.binary(callee as BinaryOp, x, y);
  }

  private unary(op: UnaryOp, x: Untyped): Untyped {
    if (op === 'not') return this.node('bool', [x], () => ({ kind: 'unary', dtype: 'bool', op, x: x.build('bool') }));
    if (PREDICATES.has(op))
      return this.node('bool', [x], () => ({ kind: 'unary', dtype: 'bool', op, x: x.build(undefined) }));
    return this.node(x.type, [x], (expected) => {
      const operand = x.build(expected);
      return { kind: 'unary', dtype: operand.dtype, op, x: operand };
    });
  }

  private binary(op: BinaryOp, a: Untyped, b: Untyped): Untyped {
    const told = LOGIC.has(op) ? 'bool' : (a.type ?? b.type);
    const type = LOGIC.has(op) || COMPARES.has(op) ? 'bool' : told;
    return this.node(type, [a, b], (expected) => {
      const operands = told ?? (COMPARES.has(op) ? undefined : expected);
      const [left, right] = [a.build(operands), b.build(operands)];
      return { kind: 'binary', dtype: type ?? left.dtype, op, a: left, b: right };
    });
  }

  /** A number, `inf` or `nan`, with `:dtype` where its place does not tell. */
  private constant(sign: '' | '-'): Untyped {
    const { text, at } = this.tokens[this.next++];
    const suffix = this.take(':') ? this.dtype() : undefined;
    return this.node(suffix, [], (expected) => {
      const dtype = suffix ?? expected;
      if (!dtype) throw this.error(at, `the dtype of ${sign}${text} is not told`);
      return { kind: 'const', dtype, value: this.scalar(dtype, sign, text, at) };
    });
  }

  private scalar(dtype: DType, sign: '' | '-', text: string, at: number): number | bigint {
    const size = text === 'inf' ? Number.POSITIVE_INFINITY : text === 'nan' ? Number.NaN : Number(text);
    if (isFloat(dtype)) return sign ? -size : size;
    if (dtype === 'bool' || !/^\d{1,20}$/.test(text)) throw this.error(at, `${sign}${text} is no ${dtype}`);
    const value = isBigInt(dtype) ? BigInt(sign + text) : Number(sign + text) + 0;
    if (value < DTYPES[dtype].min || value > DTYPES[dtype].max)
      throw this.error(at, `${sign}${text} is out of range of ${dtype}`);
    return value;
  }
}

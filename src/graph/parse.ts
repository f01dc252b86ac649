/**
 * Reads the text form of a graph (print.ts describes it) back into the graph that was printed.
 *
 * Comes in: text, and a function that finds the elements of `extern` constants. Goes out: a graph whose records equal the printed
 * ones; nothing about it is checked beyond the grammar, that is verify's work. The text may come from a file of a stranger: every
 * error is a ModelError that names the line, and no text makes the parser allocate more than its own length is worth.
 */
import { DTYPES, type DType, isBigInt, isDType, type Scalar } from '../core/dtype.ts';
import { ModelError } from '../core/errors.ts';
import { addDims, type Dim, elements, isStatic, mulDims, shapesEqual, sym } from '../core/shape.ts';
import { encodeScalar, printType, type Tensor, type ValueType, zeros } from '../core/tensor.ts';
import type { Attrs, AttrValue, Graph, Node } from './ir.ts';
import { bitsOf } from './print.ts';

/** Finds the elements of an `extern` constant; throws where it has none of that name and type. */
export type ResolveConstant = (name: string, type: ValueType) => Tensor;

const MAX_DEPTH = 50;
const TOKEN =
  /[^\S\n]*(?:(?<newline>\n)|(?<quoted>")|(?<number>-inf|-?0x[0-9a-fA-F]+|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?<word>[A-Za-z_/][A-Za-z0-9_./]*)|(?<mark>[=:,(){}[\]*+?]))/y;

interface Token {
  readonly kind: 'newline' | 'quoted' | 'number' | 'word' | 'mark' | 'end';
  readonly text: string;
  readonly line: number;
}

/**
 * The graph that `text` stands for. `resolve` is asked for `extern` constants; without it there may be none.
 * Throws ModelError `model-invalid` with the line's number.
 */
export function parseGraph(text: string, resolve: ResolveConstant = noExtern): Graph {
  const tokens = tokenStream(text);
  tokens.skipNewlines();
  const graph = parseBody(tokens, resolve, 0);
  tokens.skipNewlines();
  if (tokens.peek().kind !== 'end') tokens.fail('the end');
  return graph;
}

const noExtern: ResolveConstant = (name) => {
  throw new ModelError('model-invalid', `the elements of constant "${name}" are not in the text`);
};

interface Tokens {
  peek(): Token;
  next(): Token;
  /** Takes the token where it is this word or mark. */
  take(text: string): boolean;
  expect(text: string): void;
  name(): string;
  skipNewlines(): void;
  fail(expected: string): never;
}

/** Reads tokens one ahead, so that a long text never stands as a list of tokens. */
function tokenStream(text: string): Tokens {
  let position = 0;
  let line = 1;
  const fail = (expected: string, found: string): never => {
    throw new ModelError('model-invalid', `graph text, line ${line}: expected ${expected}, found ${found}`);
  };
  const read = (): Token => {
    TOKEN.lastIndex = position;
    const match = TOKEN.exec(text);
    if (!match) {
      const rest = text.slice(position).trim();
      if (rest !== '') fail('a name, a number or a mark', JSON.stringify(rest.slice(0, 20)));
      return { kind: 'end', text: '', line };
    }
    position = TOKEN.lastIndex;
    if (match.groups?.quoted) {
      const start = position - 1;
      position = endOfQuoted(text, position) ?? fail('a closing quote', 'the end');
      return { kind: 'quoted', text: text.slice(start, position), line };
    }
    for (const kind of ['newline', 'number', 'word', 'mark'] as const) {
      const found = match.groups?.[kind];
      if (found !== undefined) return { kind, text: found, line: kind === 'newline' ? line++ : line };
    }
    return fail('a token', JSON.stringify(match[0]));
  };
  let current = read();
  const next = (): Token => {
    const token = current;
    if (token.kind !== 'end') current = read();
    return token;
  };
  const tokens: Tokens = {
    peek: () => current,
    next,
    take: (wanted) => {
      if (current.text !== wanted || (current.kind !== 'word' && current.kind !== 'mark')) return false;
      next();
      return true;
    },
    expect: (wanted) => {
      if (!tokens.take(wanted)) tokens.fail(`"${wanted}"`);
    },
    name: () => {
      if (current.kind === 'word') return next().text;
      return current.kind === 'quoted' ? unquote(next(), tokens) : tokens.fail('a name');
    },
    skipNewlines: () => {
      while (current.kind === 'newline') next();
    },
    fail: (expected) => {
      const found = current.kind === 'end' ? 'the end' : JSON.stringify(current.text.slice(0, 40));
      throw new ModelError('model-invalid', `graph text, line ${current.line}: expected ${expected}, found ${found}`);
    },
  };
  return tokens;
}

/** The position after the quote that ends the string whose inside starts at `from`. Not a RegExp: strings may be megabytes. */
function endOfQuoted(text: string, from: number): number | undefined {
  for (let end = text.indexOf('"', from); end >= 0; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text[end - 1 - backslashes] === '\\' && end - 1 - backslashes >= from) backslashes++;
    if (backslashes % 2 === 0) return end + 1;
  }
  return undefined;
}

function unquote(token: Token, tokens: Tokens): string {
  try {
    return JSON.parse(token.text) as string;
  } catch {
    return tokens.fail(`a string, after ${token.text.slice(0, 40)}`);
  }
}

function parseBody(tokens: Tokens, resolve: ResolveConstant, depth: number): Graph {
  if (depth > MAX_DEPTH) tokens.fail('no more than 50 graphs inside one another');
  tokens.expect('graph');
  const name = tokens.name();
  const inputs: string[] = [];
  const outputs: string[] = [];
  const values = new Map<string, ValueType>();
  const constants = new Map<string, Tensor>();
  const nodes: Node[] = [];
  tokens.expect('{');
  for (tokens.skipNewlines(); !tokens.take('}'); tokens.skipNewlines()) {
    if (tokens.take('input')) {
      const [input, type] = parseTyped(tokens);
      inputs.push(input);
      values.set(input, type);
    } else if (tokens.take('const')) {
      const [constant, type] = parseTyped(tokens);
      tokens.expect('=');
      const value = tokens.take('extern') ? externConstant(resolve, constant, type) : parseElements(tokens, type);
      constants.set(constant, value);
      values.set(constant, type);
    } else if (tokens.take('output')) outputs.push(tokens.name());
    else nodes.push(parseNode(tokens, values, resolve, depth));
    if (tokens.peek().kind !== 'newline' && tokens.peek().text !== '}') tokens.fail('the end of the line');
  }
  return { name, inputs, outputs, values, constants, nodes };
}

function externConstant(resolve: ResolveConstant, name: string, type: ValueType): Tensor {
  const value = resolve(name, type);
  if (value.dtype === type.dtype && shapesEqual(value.shape, type.shape)) return value;
  throw new ModelError(
    'model-invalid',
    `constant "${name}" is ${printType(type)} in the graph text, its elements are ${printType(value)}`,
  );
}

function parseTyped(tokens: Tokens): [string, ValueType] {
  const name = tokens.name();
  tokens.expect(':');
  return [name, parseType(tokens)];
}

function parseNode(tokens: Tokens, values: Map<string, ValueType>, resolve: ResolveConstant, depth: number): Node {
  const outputs: string[] = [];
  do {
    if (tokens.take('_')) {
      outputs.push('');
      continue;
    }
    const [name, type] = parseTyped(tokens);
    outputs.push(name);
    values.set(name, type);
  } while (tokens.take(','));
  tokens.expect('=');
  const op = tokens.name();
  const inputs = parseList(tokens, '(', ')', () => (tokens.take('_') ? '' : tokens.name()));
  const attrs: Attrs =
    tokens.peek().text === '{'
      ? Object.fromEntries(
          parseList(tokens, '{', '}', () => {
            const key = tokens.name();
            tokens.expect('=');
            return [key, parseAttr(tokens, resolve, depth)] as const;
          }),
        )
      : {};
  const loc = tokens.take('loc') ? parseList(tokens, '(', ')', () => tokens.name()) : [];
  return { op, inputs, outputs, attrs, loc };
}

function parseList<T>(tokens: Tokens, open: string, close: string, item: () => T): T[] {
  const items: T[] = [];
  tokens.expect(open);
  if (tokens.take(close)) return items;
  do items.push(item());
  while (tokens.take(','));
  tokens.expect(close);
  return items;
}

function parseType(tokens: Tokens): ValueType {
  const dtype = tokens.peek().text;
  if (!isDType(dtype)) return tokens.fail('a dtype');
  tokens.next();
  return { dtype, shape: parseList(tokens, '[', ']', () => parseDim(tokens)) };
}

/** A sum of numbers, names, and numbers times names. */
function parseDim(tokens: Tokens): Dim {
  let dim: Dim = 0;
  do {
    if (tokens.peek().kind !== 'number') dim = addDims(dim, sym(tokens.name()));
    else {
      const value = parseNumber(tokens);
      dim = addDims(dim, tokens.take('*') ? mulDims(value, sym(tokens.name())) : value);
    }
  } while (tokens.take('+') || tokens.peek().text.startsWith('-'));
  return dim;
}

function parseNumber(tokens: Tokens): number {
  if (tokens.take('nan')) return Number.NaN;
  if (tokens.take('inf')) return Number.POSITIVE_INFINITY;
  if (tokens.peek().kind !== 'number') tokens.fail('a number');
  const { text } = tokens.next();
  return text === '-inf' ? Number.NEGATIVE_INFINITY : Number(text);
}

function parseAttr(tokens: Tokens, resolve: ResolveConstant, depth: number): AttrValue {
  const { kind, text } = tokens.peek();
  if (kind === 'quoted') return unquote(tokens.next(), tokens);
  if (text === '[') return parseList(tokens, '[', ']', () => parseAttr(tokens, resolve, depth)) as AttrValue;
  if (text === 'graph') return parseBody(tokens, resolve, depth + 1);
  if (tokens.take('none')) return undefined;
  if (tokens.take('true')) return true;
  if (tokens.take('false')) return false;
  if (tokens.take('tensor')) return parseElements(tokens, parseType(tokens));
  return parseNumber(tokens);
}

function parseElements(tokens: Tokens, type: ValueType): Tensor {
  const { dtype, shape } = type;
  if (!isStatic(shape)) return tokens.fail('elements of a shape without names, so no elements');
  const texts = parseList(tokens, '{', '}', () => tokens.next());
  if (texts.length !== elements(shape)) tokens.fail(`${elements(shape)} elements before this, not ${texts.length}`);
  const value = zeros(dtype, shape);
  const bits = bitsOf(value);
  for (const [i, token] of texts.entries()) {
    if (/^0x/.test(token.text))
      bits[i] = (DTYPES[dtype].bytes === 8 ? BigInt(token.text) : Number(token.text)) as never;
    else value.data[i] = encodeScalar(dtype, parseElement(tokens, token, dtype)) as never;
  }
  return value;
}

const WORDS: ReadonlyMap<string, number> = new Map([
  ['nan', Number.NaN],
  ['inf', Number.POSITIVE_INFINITY],
  ['-inf', Number.NEGATIVE_INFINITY],
]);

function parseElement(tokens: Tokens, token: Token, dtype: DType): Scalar {
  const { text } = token;
  if (isBigInt(dtype)) return /^-?\d+$/.test(text) ? BigInt(text) : tokens.fail(`an integer, not ${text}, before this`);
  const value = WORDS.get(text) ?? (token.kind === 'number' ? Number(text) : undefined);
  return value ?? tokens.fail(`a number, not ${text}, before this`);
}

/**
 * What must hold of a model whatever its operators are: the rules of ONNX's own checker that reading would not trip over by itself.
 *
 * Comes in: a decoded model, whole, control flow and functions included. Goes out: its problems, in the order of the file. The rules
 * are those of the IR specification, https://onnx.ai/onnx/repo-docs/IR.html. Where files in use break a rule without harm (an empty
 * graph name), it is not checked.
 */
import type { ModelError } from '../core/errors.ts';
import { ATTRIBUTE_FIELDS, attributeTypeName } from './attributes.ts';
import { nameOfCode } from './dtypes.ts';
import type {
  AttributeProto,
  FunctionProto,
  GraphProto,
  NodeProto,
  OperatorSetIdProto,
  TensorProto,
} from './onnx_pb.ts';
import { canonicalDomain, opKey } from './opsets.ts';
import type { ParsedModel } from './parse-model.ts';
import type { Problem } from './problems.ts';

/** From this version on a model lists its operator sets, and every attribute states its type. */
const TYPED_IR_VERSION = 3;

/** The problems of a model's form; none where it is well formed. Operators that are not `known` (by key) are another's to report. */
export function checkModel(model: ParsedModel, known: (op: string) => boolean): Problem[] {
  const checker = new Checker(model, known);
  checker.check();
  return checker.problems;
}

class Checker {
  readonly problems: Problem[] = [];
  readonly #model: ParsedModel;
  readonly #known: (op: string) => boolean;
  readonly #isTyped: boolean;

  constructor(model: ParsedModel, known: (op: string) => boolean) {
    this.#model = model;
    this.#known = known;
    this.#isTyped = model.irVersion >= TYPED_IR_VERSION;
  }

  check(): void {
    const { opsetImport, functions, graph } = this.#model;
    if (this.#isTyped && opsetImport.length === 0)
      this.#fail('the model imports no operator set', 'opset_import must name the default domain and its version');
    const domains = this.#domains(opsetImport, 'the model');
    this.#graph(graph, domains, '');
    for (const f of functions) this.#function(f);
  }

  #function(f: FunctionProto): void {
    const where = `function "${f.name}"`;
    this.#names(f.input, `input of ${where}`);
    this.#names(f.output, `output of ${where}`);
    const own = this.#domains(f.opsetImport, where);
    for (const node of f.node) this.#node(node, own.size > 0 ? own : undefined);
  }

  /** The domains of operators that may be used; undefined ones are not checked. */
  #domains(imports: readonly OperatorSetIdProto[], where: string): ReadonlySet<string> {
    const domains = new Set<string>();
    for (const { domain, version } of imports) {
      const name = canonicalDomain(domain);
      if (domains.has(name)) this.#fail(`${where} imports the operator set "${name || 'ai.onnx'}" twice`);
      if (version < 1n) this.#fail(`${where} imports version ${version} of the operator set "${name || 'ai.onnx'}"`);
      domains.add(name);
    }
    return domains;
  }

  #graph(graph: GraphProto, domains: ReadonlySet<string> | undefined, within: string): void {
    const of = within === '' ? '' : ` of the graph in ${within}`;
    this.#names(
      graph.initializer.map((t) => t.name),
      `initializer${of}`,
    );
    for (const proto of graph.initializer) this.#tensor(proto, `initializer "${proto.name}"${of}`);
    for (const node of graph.node) this.#node(node, domains);
  }

  #node(node: NodeProto, domains: ReadonlySet<string> | undefined): void {
    const label = `${node.opType || 'node'} "${node.name || (node.output[0] ?? '')}"`;
    if (node.opType === '') this.#fail(`${label} names no operator`);
    const domain = canonicalDomain(node.domain);
    const isOwn = !this.#known(opKey(domain, node.opType)) || this.#isLocal(domain);
    if (this.#isTyped && domains && !domains.has(domain) && !isOwn) {
      this.#fail(
        `${label} is of domain "${domain || 'ai.onnx'}", which the model does not import`,
        'add the domain and its version to opset_import',
      );
    }
    this.#names(
      node.attribute.map((a) => a.name),
      `attribute of ${label}`,
    );
    for (const attribute of node.attribute) this.#attribute(attribute, label, domains);
  }

  #isLocal(domain: string): boolean {
    return this.#model.functions.some((f) => canonicalDomain(f.domain) === domain);
  }

  #attribute(attribute: AttributeProto, label: string, domains: ReadonlySet<string> | undefined): void {
    const what = `${label}: attribute "${attribute.name}"`;
    const present = ATTRIBUTE_FIELDS.filter(({ isPresent }) => isPresent(attribute));
    if (present.length > 1) this.#fail(`${what} has several values: ${present.map((f) => f.name).join(' and ')}`);
    if (this.#isTyped && attribute.type === 0 && attribute.refAttrName === '')
      this.#fail(`${what} does not state its type`);
    const other = present.find(({ type }) => type !== attribute.type);
    if (attribute.type !== 0 && other)
      this.#fail(`${what} says that it is ${attributeTypeName(attribute.type)} and holds ${other.name}`);
    if (attribute.t) this.#tensor(attribute.t, what);
    if (attribute.g) this.#graph(attribute.g, domains, `${what}`);
  }

  #tensor(proto: TensorProto, what: string): void {
    if (proto.dataType === 0) this.#fail(`${what} has no element type`);
    const fields = (['floatData', 'int32Data', 'int64Data', 'doubleData', 'uint64Data'] as const).filter(
      (field) => proto[field].length > 0,
    );
    if (proto.dims.some((dim) => dim < 0n)) this.#fail(`${what} has a negative dim: ${proto.dims.join('×')}`);
    const raw = proto.rawData !== undefined && proto.rawData.length > 0;
    if (fields.length + (raw ? 1 : 0) > 1)
      this.#fail(
        `${what} (${nameOfCode(proto.dataType)}) has its elements twice: ${[...fields, ...(raw ? ['rawData'] : [])].join(' and ')}`,
      );
  }

  /** Names that must be there and differ. */
  #names(names: readonly string[], what: string): void {
    const seen = new Set<string>();
    for (const name of names) {
      if (name === '') this.#fail(`an ${what} has no name`);
      else if (seen.has(name)) this.#fail(`${what} "${name}" is there twice`);
      seen.add(name);
    }
  }

  #fail(message: string, hint?: string): void {
    this.problems.push({ code: 'model-invalid' satisfies ModelError['code'], message, hint });
  }
}

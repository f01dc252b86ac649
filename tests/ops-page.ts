/**
 * docs/ops.md: every operator as the table knows it. Markdown out of records, so the page cannot say what the code does not.
 */
import { DTYPES, type DType } from '../src/core/dtype.ts';
import { CONTROL_FLOW } from '../src/onnx/control-flow.ts';
import { NEWEST_OPSET } from '../src/onnx/opsets.ts';
import { SEQUENCE_OPERATORS } from '../src/onnx/sequences.ts';
import type { Op, OpCase } from '../src/ops/op.ts';
import type { Target } from '../src/targets/target.ts';

const INTRODUCTION = `# Operators

Written by \`npm run docs:ops\` from the operator table (\`src/ops/\`); a test holds it to the code.

- **opsets**: the oldest opset whose form of the operator is read, to the newest. Older forms become the newest while the model is read.
- **tested with**: element types of the inputs in the operator's own test cases, which run on every target and against onnxruntime.
- **becomes**: how a target that compiles sees it. *elementwise* and *index* fuse into their neighbours, *alias* and *concat* cost
  nothing or a copy, *kernel* is a loop nest of its own, *others* means that it is written with other operators.
- A target without templates evaluates the graph. **no** under a target: what the operator gives has a size that only its input's elements
  tell, so the target runs it only where these are known when the engine is built. Targets that take open sizes run it as it is.
`;

/** The page, for these operators and targets. */
export function opsPage(ops: ReadonlyMap<string, Op>, targets: readonly Target[]): string {
  const held = [...ops.values()].filter((op) => op.cases.length > 0);
  const renamed = [...ops.values()].filter((op) => op.cases.length === 0).map((op) => op.name);
  const domains = [...new Set(held.map((op) => op.onnx.domain ?? ''))].sort();
  const sections = domains.map((domain) => {
    const rows = held.filter((op) => (op.onnx.domain ?? '') === domain).sort((a, b) => (a.name < b.name ? -1 : 1));
    return `## ${domain || 'ai.onnx'}: ${rows.length} operators\n\n${table(rows, targets)}\n`;
  });
  return [INTRODUCTION, ...sections, readerSection(renamed)].join('\n');
}

function table(ops: readonly Op[], targets: readonly Target[]): string {
  const names = targets.map((t) => t.name);
  const head = ['operator', 'opsets', 'tested with', 'becomes', ...names];
  const rows = ops.map((op) => [
    op.name,
    op.onnx.domain ? `from ${op.onnx.since}` : `${op.onnx.since}–${NEWEST_OPSET}`,
    dtypesOf(op).join(' '),
    becomes(op),
    ...targets.map((target) => (target.templates && !runsOn(op, target) ? 'no' : 'yes')),
  ]);
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function runsOn(op: Op, target: Target): boolean {
  if (op.expand) return true;
  const isCounted = op.lower?.kind === 'kernel' && op.lower.counts === true;
  // Its cases give outputs of known sizes: where they fix all inputs, any of them may decide a size.
  const isSizedByData = isCounted && op.cases.every(({ inputs }) => inputs.every((x) => x && 'constant' in x));
  return op.lower !== undefined && (!isSizedByData || target.takesSizes === true);
}

function becomes(op: Op): string {
  const ways = [...(op.expand ? ['others'] : []), ...(op.lower ? [op.lower.kind] : [])];
  return ways.join(' or ') || '—';
}

/** Element types of the inputs of the cases, in the order of the dtype table. */
function dtypesOf(op: Op): readonly DType[] {
  const used = new Set(op.cases.flatMap(({ inputs }) => inputs.flatMap((input) => dtypeOf(input) ?? [])));
  return (Object.keys(DTYPES) as DType[]).filter((dtype) => used.has(dtype));
}

function dtypeOf(input: OpCase['inputs'][number]): DType | undefined {
  if (!input) return undefined;
  return 'constant' in input ? input.constant.dtype : input.dtype;
}

function readerSection(renamed: readonly string[]): string {
  const names = [...Object.keys(CONTROL_FLOW), ...Object.keys(SEQUENCE_OPERATORS), 'Constant'].sort();
  return `## Resolved while the model is read

No graph holds these: what stands for them is decided by what is known then. Local functions are inlined.

${names.join(', ')}.

Under another name in newer opsets: ${[...renamed].sort().join(', ')}.
`;
}

/**
 * A convolution without the taps that only ever read padding: a part of its weight, and smaller pads. Outputs are the same.
 */
import { Bug } from '../core/errors.ts';
import { isStatic } from '../core/shape.ts';
import type { ValueType } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/build.ts';
import { type Attrs, type Node, nodeLabel } from '../graph/ir.ts';
import { nodeWriter } from './node-writer.ts';
import { staticWindow, trimWindow, type WindowAttrs, windowOutput } from './window.ts';

/** The output of the smaller convolution; undefined where every tap reads something, or sizes are open. */
export function withoutIdleTaps(
  b: GraphBuilder,
  node: Node,
  attrs: WindowAttrs & Attrs,
  [x, w]: readonly (ValueType | undefined)[],
): readonly string[] | undefined {
  if (!x || !w || !isStatic(x.shape) || !isStatic(w.shape)) return undefined;
  const [input, kernel] = [x.shape.slice(2), w.shape.slice(2)];
  const impossible = (): never => {
    throw new Bug('conv-window', `${nodeLabel(node)} was inferred with another window`);
  };
  const output = windowOutput({ attrs, input, kernel, ceilMode: false, freshDim: impossible, fail: impossible });
  if (!isStatic(output)) return undefined;
  const dims = staticWindow(attrs, input, kernel, output).map(trimWindow);
  if (dims.every(({ window }, d) => window.kernel === kernel[d])) return undefined;
  const writer = nodeWriter(b);
  const weight = dims.reduce(
    (part, { window, first }, d) => writer.slice(part, 2 + d, first, first + window.kernel),
    node.inputs[1],
  );
  const pads = [...dims.map(({ window }) => window.padBegin), ...dims.map(({ window }) => window.padEnd)];
  const { kernel_shape: _, ...others } = attrs;
  return b.node(node.op, [node.inputs[0], weight, ...node.inputs.slice(2)], {
    attrs: { ...others, auto_pad: 'NOTSET', pads },
  });
}

/**
 * What the viewer's page shows, as plain data: `page-model.ts` makes it from a graph, an engine and a profile; the page (viewer/) reads
 * it as JSON. Indices stand for references: an item is a place in its side's list, a group a place in `groups`.
 */
import type { WeightSummary } from './weight-summary.ts';

export interface PageModel {
  readonly name: string;
  /** Blocks of the network, shared by both sides. A parent comes before its children. */
  readonly groups: readonly PageGroup[];
  /** The network as the model file has it; absent where only an engine was at hand. */
  readonly graph?: PageSide;
  /** What runs: one item a step. Absent where no engine was built, or it has no steps. */
  readonly engine?: PageSide;
  /** For each item of the engine, the items of the graph that it computes. */
  readonly links: readonly (readonly number[])[];
  readonly facts: readonly Fact[];
  /** How the times were got; absent where there are none. */
  readonly timing?: string;
}

export type Fact = readonly [name: string, text: string];

export interface PageGroup {
  readonly label: string;
  /** -1 at the top. */
  readonly parent: number;
}

export interface PageSide {
  readonly items: readonly PageItem[];
  readonly edges: readonly PageEdge[];
}

export interface PageItem {
  /** What it does: an operator, a kernel's form, `input` or `output`. */
  readonly title: string;
  readonly name: string;
  /** Items of one kind share a colour: how the operator lowers, or the form of the kernel. */
  readonly kind: string;
  /** The innermost block it belongs to; -1 at the top. */
  readonly group: number;
  readonly inputs: readonly PageValue[];
  readonly outputs: readonly PageValue[];
  readonly facts: readonly Fact[];
  /** Element type of what it computes. */
  readonly precision: string;
  /** Of kernels only. */
  readonly flops?: number;
  readonly bytes?: number;
  readonly ms?: number;
}

export interface PageValue {
  readonly name: string;
  /** `f32[1,64,56,56]`. */
  readonly type: string;
  /** Of constants whose elements are at hand. */
  readonly weight?: WeightSummary;
}

export interface PageEdge {
  readonly from: number;
  readonly to: number;
  /** The type of the value, drawn beside the edge. */
  readonly type: string;
}

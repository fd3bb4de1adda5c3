// SPDX-License-Identifier: Apache-2.0
#include "loaders/graph.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "../temporary_directory.hpp"
#include "gguf_writer.hpp"
#include "random_model.hpp"

namespace tensor_pager::loaders {
namespace {

using make_gguf::GgufHeader;
using make_gguf::random_model_tensors;
using make_gguf::RandomModelOptions;
using make_gguf::RandomTensor;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using tests::TemporaryDirectory;

std::vector<const WeightSlice*> all_weights(const Step& step) {
  std::vector<const WeightSlice*> out;
  for (const WeightSlice& weight : step.weights) out.push_back(&weight);
  for (const ExpertWeights& expert : step.experts) {
    for (const WeightSlice& weight : expert.weights) out.push_back(&weight);
  }
  return out;
}

Bytes bytes_of_step(const Step& step) {
  Bytes sum;
  for (const WeightSlice* weight : all_weights(step)) sum += weight->bytes.size;
  return sum;
}

class GraphTest : public testing::TestWithParam<std::string> {
 protected:
  GgufModel write(RandomModelOptions options) {
    options.architecture = GetParam();
    return GgufModel::open(make_gguf::write_random_model(directory_ / "m.gguf", options).files[0]);
  }

  TemporaryDirectory directory_;
};

INSTANTIATE_TEST_SUITE_P(Architectures, GraphTest,
                         testing::Values("qwen2", "qwen3", "qwen2moe", "qwen3moe"),
                         [](const auto& instance) { return instance.param; });

// Every byte of every tensor, once; of the embedding only if it is the output matrix as well.
void expect_covered_once(const GgufModel& model, const Graph& graph) {
  std::vector<ByteRange> read;
  for (const Step& step : graph.steps) {
    for (const WeightSlice* weight : all_weights(step)) {
      read.push_back(weight->bytes);
      EXPECT_GE(weight->bytes.offset, model.tensors()[weight->tensor].bytes.offset);
      EXPECT_LE(weight->bytes.end(), model.tensors()[weight->tensor].bytes.end());
    }
  }
  std::ranges::sort(read);
  std::size_t next = 0;
  for (const TensorInfo& tensor : model.tensors()) {
    if (tensor.name == "token_embd.weight" && !graph.tied_output) continue;
    Bytes position = tensor.bytes.offset;
    while (position < tensor.bytes.end()) {
      ASSERT_LT(next, read.size()) << tensor.name;
      ASSERT_EQ(read[next].offset, position) << tensor.name;
      position = read[next++].end();
    }
    ASSERT_EQ(position, tensor.bytes.end()) << tensor.name;
  }
  EXPECT_EQ(next, read.size());
}

TEST_P(GraphTest, StepsReadEveryByteExactlyOnce) {
  for (const bool tied : {false, true}) {
    const GgufModel model = write({.type = "q4_k_m", .tied = tied});
    for (const Bytes limit : {KiB(40), KiB(100), KiB(333), MiB(64)}) {
      const Graph graph = build_graph(model, {.max_step_bytes = limit});
      EXPECT_EQ(graph.tied_output, tied);
      EXPECT_TRUE(graph.unused.empty());
      expect_covered_once(model, graph);
    }
  }
}

// The largest thing that cannot be cut, for the tiny models in F32: two times 32 rows of 256, one
// expert, or a head of 128 rows with its bias.
TEST_P(GraphTest, StepsAreNoLargerThanAskedForUnlessTheyCannotBeCut) {
  const GgufModel model = write({.type = "f32"});
  const Bytes expert = KiB(3 * 256);
  for (const Bytes limit : {KiB(140), KiB(200), KiB(800), MiB(2)}) {
    const Graph graph = build_graph(model, {.max_step_bytes = limit});
    for (const Step& step : graph.steps) {
      const Bytes allowed = step.op == Op::moe_experts ? std::max(limit, expert) : limit;
      EXPECT_LE(bytes_of_step(step), allowed) << to_string(step.op) << " of " << step.layer;
    }
  }
}

TEST_P(GraphTest, SlicesBeginAtWholeHeadsOrTiles) {
  const GgufModel model = write({.type = "q8_0"});
  const Graph graph = build_graph(model, {.max_step_bytes = KiB(40)});
  const std::uint64_t head = graph.config.key_length;
  bool cut = false;
  for (const Step& step : graph.steps) {
    for (const WeightSlice& weight : step.weights) {
      const bool is_projection = step.op == Op::attention_input && weight.rows >= head;
      EXPECT_EQ(weight.first_row % (is_projection ? head : 32), 0u) << to_string(weight.role);
      cut = cut || weight.first_row > 0;
    }
    // Rows of a matrix and of what is cut with it are the same ones.
    const auto same_rows = [&](WeightRole a, WeightRole b) {
      if (step.find(a) == nullptr || step.find(b) == nullptr) return;
      EXPECT_EQ(step.find(a)->first_row, step.find(b)->first_row);
      EXPECT_EQ(step.find(a)->rows, step.find(b)->rows);
    };
    same_rows(WeightRole::gate, WeightRole::up);
    same_rows(WeightRole::q, WeightRole::q_bias);
    same_rows(WeightRole::v, WeightRole::v_bias);
  }
  EXPECT_TRUE(cut);
}

TEST_P(GraphTest, NormsRideWithTheSliceThatNeedsThem) {
  const GgufModel model = write({.type = "q8_0"});
  const Graph graph = build_graph(model, {.max_step_bytes = KiB(40)});
  const ArchitectureTraits& architecture = traits(graph.config.architecture);
  for (std::size_t i = 0; i < graph.steps.size(); ++i) {
    const Step& step = graph.steps[i];
    const bool begins = i == 0 || graph.steps[i - 1].op != step.op;
    const bool ends = i + 1 == graph.steps.size() || graph.steps[i + 1].op != step.op;
    EXPECT_EQ(step.first_slice, begins);
    EXPECT_EQ(step.last_slice, ends);
    const bool input = step.op == Op::attention_input;
    const bool feed_forward = step.op == Op::ffn_gate_up || step.op == Op::moe_router;
    EXPECT_EQ(step.find(WeightRole::attn_norm) != nullptr, input && begins);
    EXPECT_EQ(step.find(WeightRole::q_norm) != nullptr, input && ends && architecture.qk_norm);
    EXPECT_EQ(step.find(WeightRole::ffn_norm) != nullptr, feed_forward && begins);
    EXPECT_EQ(step.find(WeightRole::output_norm) != nullptr, step.op == Op::output && begins);
  }
}

TEST_P(GraphTest, OperationsOfALayerAreInOrder) {
  const GgufModel model = write({.type = "f16"});
  const Graph graph = build_graph(model);
  std::vector<std::string_view> ops;
  for (const Step& step : graph.steps) {
    if (step.layer == 1) ops.push_back(to_string(step.op));
  }
  if (GetParam() == "qwen2moe") {
    EXPECT_THAT(ops, ElementsAre("attention_input", "attention_output", "moe_router",
                                 "moe_shared_gate_up", "moe_shared_down", "moe_experts"));
  } else if (GetParam() == "qwen3moe") {
    EXPECT_THAT(ops,
                ElementsAre("attention_input", "attention_output", "moe_router", "moe_experts"));
  } else {
    EXPECT_THAT(ops, ElementsAre("attention_input", "attention_output", "ffn_gate_up", "ffn_down"));
  }
  EXPECT_EQ(graph.steps.back().op, Op::output);
  EXPECT_EQ(graph.steps.back().layer, graph.config.block_count());
}

// Slicing moves work around but neither adds nor loses any: two operations per weight of a matrix.
TEST_P(GraphTest, OperationsCountTwoPerWeight) {
  const GgufModel model = write({.type = "f16"});
  for (const Bytes limit : {KiB(150), MiB(64)}) {
    double counted = 0;
    for (const Step& step : build_graph(model, {.max_step_bytes = limit}).steps) {
      const double times = step.experts.empty() ? 1 : static_cast<double>(step.experts.size());
      counted += step.flops_per_token * times;
    }
    double expected = 0;
    for (const TensorInfo& tensor : model.tensors()) {
      if (tensor.dimensions == 1 || tensor.name == "token_embd.weight") continue;
      expected += 2.0 * static_cast<double>(tensor.ne[0] * tensor.rows());
    }
    EXPECT_EQ(counted, expected);
  }
}

TEST_P(GraphTest, ReadsAreSortedAndMerged) {
  const GgufModel model = write({.type = "q4_k_m"});
  for (const Step& step : build_graph(model, {.max_step_bytes = KiB(100)}).steps) {
    Bytes sum;
    Bytes last;
    for (const ByteRange& range : reads(step)) {
      EXPECT_GT(range.size, Bytes{0});
      EXPECT_TRUE(last == Bytes{0} || range.offset > last);
      last = range.end();
      sum += range.size;
    }
    Bytes always;
    for (const WeightSlice& weight : step.weights) always += weight.bytes.size;
    EXPECT_EQ(sum, always);
  }
}

// Models put together by hand, tensor by tensor: only the header matters here.
class HandMadeModelTest : public testing::Test {
 protected:
  HandMadeModelTest() { set_architecture("qwen2"); }

  void set_architecture(const std::string& name) {
    options_ = {.architecture = name, .type = "q8_0"};
    tensors_ = random_model_tensors(options_);
    make_gguf::write_random_model(directory_ / "keys.gguf", options_);
    keys_ = GgufModel::open(directory_ / "keys.gguf").metadata();
  }
  RandomTensor& tensor(const std::string& name) {
    return *std::ranges::find(tensors_, name, &RandomTensor::name);
  }
  void erase(const std::string& name) {
    std::erase_if(tensors_, [&](const RandomTensor& t) { return t.name == name; });
  }
  void add(const std::string& name, std::vector<std::uint64_t> ne, TensorType type) {
    tensors_.push_back({name, std::move(ne), type, 0, 1});
  }

  // The keys are those of the random model, so that shapes can disagree with them.
  GgufModel open() {
    GgufHeader header;
    for (const auto& [key, entry] : keys_.entries()) {
      std::visit(
          [&header, &key = key](const auto& value) {
            if constexpr (!std::is_same_v<std::decay_t<decltype(value)>, MetadataArray>) {
              header.add(key, value);
            }
          },
          entry.value);
    }
    Bytes offset;
    for (const RandomTensor& t : tensors_) {
      header.declare({t.name, t.ne, static_cast<std::uint32_t>(t.type), offset.count});
      offset = round_up(offset + make_gguf::tensor_bytes(t.type, t.ne), {32});
    }
    const auto path = directory_.write("m.gguf", header.serialise());
    std::filesystem::resize_file(path, header.serialise().size() + offset.count);
    return GgufModel::open(path);
  }
  std::string error() {
    try {
      build_graph(open());
    } catch (const GgufError& error) {
      return error.what();
    }
    return "no error";
  }

  TemporaryDirectory directory_;
  RandomModelOptions options_;
  Metadata keys_;
  std::vector<RandomTensor> tensors_;
};

TEST_F(HandMadeModelTest, EveryTensorIsRequired) {
  for (const std::string architecture : {"qwen2", "qwen3", "qwen2moe", "qwen3moe"}) {
    set_architecture(architecture);
    const std::vector<RandomTensor> complete = tensors_;
    ASSERT_EQ(error(), "no error");
    for (const RandomTensor& missing : complete) {
      const bool once = !missing.name.starts_with("blk.") || missing.name.starts_with("blk.2.");
      if (!once || missing.name == "output.weight") continue;
      tensors_ = complete;
      erase(missing.name);
      EXPECT_THAT(error(), AllOf(HasSubstr(missing.name), HasSubstr("missing")));
    }
  }
}

TEST_F(HandMadeModelTest, EveryShapeIsChecked) {
  for (const std::string architecture : {"qwen2", "qwen3", "qwen2moe", "qwen3moe"}) {
    set_architecture(architecture);
    const std::vector<RandomTensor> complete = tensors_;
    for (const RandomTensor& wrong : complete) {
      // The embedding decides how large the vocabulary is.
      if (wrong.name.starts_with("blk.0.") || wrong.name.starts_with("blk.1.")) continue;
      if (wrong.name == "token_embd.weight") continue;
      tensors_ = complete;
      tensor(wrong.name).ne.back() += 32;
      EXPECT_THAT(error(), AllOf(HasSubstr(wrong.name), HasSubstr("has shape")));
    }
  }
}

TEST_F(HandMadeModelTest, ShapeErrorsShowBothShapes) {
  tensor("blk.1.ffn_down.weight").ne = {256, 512};
  EXPECT_THAT(error(), AllOf(HasSubstr("m.gguf"), HasSubstr("blk.1.ffn_down.weight"),
                             HasSubstr("{256, 512}"), HasSubstr("{512, 256}")));
}

TEST_F(HandMadeModelTest, VectorsMustNotBeQuantised) {
  tensor("blk.0.attn_q.bias").type = TensorType::q8_0;
  EXPECT_THAT(error(), AllOf(HasSubstr("blk.0.attn_q.bias"), HasSubstr("Q8_0")));
}

TEST_F(HandMadeModelTest, TensorsThatThePassDoesNotNeedAreListed) {
  keys_.insert("qwen2.nextn_predict_layers", {std::uint32_t{1}, 0});
  std::erase_if(tensors_, [](const RandomTensor& t) { return t.name.starts_with("blk.2."); });
  add("blk.2.nextn.eh_proj.weight", {512, 256}, TensorType::f16);
  add("blk.2.attn_norm.weight", {256}, TensorType::f32);
  const GgufModel model = open();
  const Graph graph = build_graph(model);
  std::vector<std::string> names;
  for (const std::uint32_t i : graph.unused) names.push_back(model.tensors()[i].name);
  EXPECT_THAT(names, ElementsAre("blk.2.nextn.eh_proj.weight", "blk.2.attn_norm.weight"));
}

TEST_F(HandMadeModelTest, OtherTensorsWithoutAUseAreErrors) {
  for (const std::string architecture : {"qwen2", "qwen3", "qwen2moe", "qwen3moe"}) {
    set_architecture(architecture);
    add("blk.1.attn_norm.scale", {1}, TensorType::f32);
    add("blk.3.nextn.eh_proj.weight", {512, 256}, TensorType::f16);
    EXPECT_THAT(error(),
                AllOf(HasSubstr("blk.1.attn_norm.scale"), HasSubstr(architecture + " model"),
                      HasSubstr("the first of 2 such tensors")));
  }
}

TEST_F(HandMadeModelTest, ScalesOfMatricesAreUsedThoseOfInputsAreNotNeeded) {
  add("blk.1.attn_q.scale", {1}, TensorType::f32);
  add("blk.1.ffn_up.weight.scale", {1}, TensorType::f32);
  add("blk.1.attn_q.input_scale", {1}, TensorType::f32);
  const GgufModel model = open();
  const Graph graph = build_graph(model);
  ASSERT_EQ(graph.unused.size(), 1U);
  EXPECT_EQ(model.tensors()[graph.unused.front()].name, "blk.1.attn_q.input_scale");
  std::map<std::string, std::string> scales;
  for (const MatrixScale& pair : graph.scales) {
    scales[model.tensors()[pair.matrix].name] = model.tensors()[pair.scale].name;
  }
  EXPECT_THAT(scales, ElementsAre(Pair("blk.1.attn_q.weight", "blk.1.attn_q.scale"),
                                  Pair("blk.1.ffn_up.weight", "blk.1.ffn_up.weight.scale")));
}

TEST_F(HandMadeModelTest, AMatrixHasOneScale) {
  add("blk.1.attn_q.weight.scale", {1}, TensorType::f32);
  add("blk.1.attn_q.scale", {1}, TensorType::f32);
  EXPECT_THAT(error(), AllOf(HasSubstr("blk.1.attn_q.scale"), HasSubstr("no use for it")));
}

TEST_F(HandMadeModelTest, ScalesOfPredictionBlocksAreNotNeeded) {
  keys_.insert("qwen2.nextn_predict_layers", {std::uint32_t{1}, 0});
  std::erase_if(tensors_, [](const RandomTensor& t) { return t.name.starts_with("blk.2."); });
  add("blk.2.nextn.eh_proj.weight", {512, 256}, TensorType::f16);
  add("blk.2.nextn.eh_proj.scale", {1}, TensorType::f32);
  const Graph graph = build_graph(open());
  EXPECT_TRUE(graph.scales.empty());
  EXPECT_EQ(graph.unused.size(), 2U);
}

TEST_F(HandMadeModelTest, RopeFactorsAreNoStepsBusiness) {
  EXPECT_FALSE(build_graph(open()).rope_factors.has_value());
  const std::uint64_t pairs = build_graph(open()).config.rope_dimension_count / 2;
  add("rope_freqs.weight", {pairs}, TensorType::f32);
  const GgufModel model = open();
  const Graph graph = build_graph(model);
  ASSERT_TRUE(graph.rope_factors.has_value());
  EXPECT_EQ(model.tensors()[*graph.rope_factors].name, "rope_freqs.weight");
  EXPECT_TRUE(graph.unused.empty());
}

// Rows of a bias are those of its matrix, whatever the slices.
TEST_F(HandMadeModelTest, OptionalBiasesAreCutWithTheirMatrices) {
  set_architecture("qwen3");
  const std::vector<std::pair<WeightRole, WeightRole>> pairs = {
      {WeightRole::q, WeightRole::q_bias},
      {WeightRole::k, WeightRole::k_bias},
      {WeightRole::v, WeightRole::v_bias},
      {WeightRole::attn_output, WeightRole::attn_output_bias},
      {WeightRole::gate, WeightRole::gate_bias},
      {WeightRole::up, WeightRole::up_bias},
      {WeightRole::down, WeightRole::down_bias},
      {WeightRole::output, WeightRole::output_bias}};
  for (const std::string name :
       {"blk.1.attn_q", "blk.1.attn_k", "blk.1.attn_v", "blk.1.attn_output", "blk.1.ffn_gate",
        "blk.1.ffn_up", "blk.1.ffn_down", "output"}) {
    add(name + ".bias", {tensor(name + ".weight").ne[1]}, TensorType::f32);
  }
  const GgufModel model = open();
  const Graph graph = build_graph(model, {.max_step_bytes = KiB(20)});
  std::map<WeightRole, std::uint64_t> rows;
  for (const Step& step : graph.steps) {
    for (const auto& [weight, bias] : pairs) {
      if (step.layer != 1 && step.op != Op::output) continue;
      ASSERT_EQ(step.find(weight) == nullptr, step.find(bias) == nullptr) << to_string(bias);
      if (step.find(bias) == nullptr) continue;
      EXPECT_EQ(step.find(bias)->first_row, step.find(weight)->first_row);
      EXPECT_EQ(step.find(bias)->rows, step.find(weight)->rows);
      rows[bias] += step.find(bias)->rows;
    }
  }
  EXPECT_EQ(rows.size(), pairs.size());
  EXPECT_EQ(rows[WeightRole::output_bias], 512U);
  tensor("output.bias").ne = {500};
  EXPECT_THAT(error(), AllOf(HasSubstr("output.bias"), HasSubstr("has shape")));
}

TEST_F(HandMadeModelTest, MatricesOfAnyTypeAreAccepted) {
  tensor("blk.0.ffn_up.weight").type = TensorType::mxfp4;
  tensor("output.weight").type = TensorType::iq1_s;
  EXPECT_EQ(error(), "no error");
}

TEST_F(HandMadeModelTest, GateAndUpOfExpertsMayBeFused) {
  set_architecture("qwen3moe");
  for (const std::string layer : {"blk.0.", "blk.1.", "blk.2."}) {
    erase(layer + "ffn_gate_exps.weight");
    erase(layer + "ffn_up_exps.weight");
    add(layer + "ffn_gate_up_exps.weight", {256, 512, 8}, TensorType::q8_0);
  }
  const GgufModel model = open();
  const Graph graph = build_graph(model);
  const auto step = std::ranges::find(graph.steps, Op::moe_experts, &Step::op);
  ASSERT_NE(step, graph.steps.end());
  ASSERT_EQ(step->experts.size(), 8u);
  const WeightSlice& fused = step->experts[3].weights[0];
  EXPECT_EQ(fused.role, WeightRole::gate_up);
  EXPECT_EQ(fused.first_row, 3 * 512u);
  EXPECT_EQ(fused.rows, 512u);
  EXPECT_EQ(fused.bytes.size, (Bytes{512 * 272}));
}

}  // namespace
}  // namespace tensor_pager::loaders

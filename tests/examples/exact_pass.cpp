// SPDX-License-Identifier: Apache-2.0
#include "exact_pass.hpp"

#include <cmath>
#include <string>

#include "kernels/dequantize.hpp"

namespace tensor_pager::qwen {
namespace {

using Vector = std::vector<double>;
using Matrix = std::vector<Vector>;  // [tokens][columns]

class Pass {
 public:
  Pass(tests::EditedModel& model, const ExactShape& shape, const ExactRope& rope)
      : model_(model), shape_(shape), rope_(rope) {}

  Vector logits(const std::vector<loaders::TokenId>& tokens) {
    const Vector table = values("token_embd.weight");
    const std::size_t width = model_.tensor("token_embd.weight").ne[0];
    Matrix x;
    for (const loaders::TokenId token : tokens) {
      const auto row = table.begin() + static_cast<std::ptrdiff_t>(token * width);
      x.emplace_back(row, row + static_cast<std::ptrdiff_t>(width));
    }
    for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
      prefix_ = "blk." + std::to_string(layer) + ".";
      add(x, attention(norm(x, prefix_ + "attn_norm.weight")));
      add(x, feed_forward(norm(x, prefix_ + "ffn_norm.weight")));
    }
    const std::string head = model_.find("output.weight") != nullptr ? "output" : "token_embd";
    Vector out;
    for (const Vector& row : product(norm(x, "output_norm.weight"), head, "output.bias")) {
      out.insert(out.end(), row.begin(), row.end());
    }
    return out;
  }

 private:
  Vector values(const std::string& name) {
    const auto& tensor = model_.tensor(name);
    std::size_t count = 1;
    for (const std::uint64_t n : tensor.ne) count *= n;
    std::vector<float> floats(count);
    kernels::cpu::dequantize(*kernels::weight_type(static_cast<std::uint32_t>(tensor.type)),
                             tensor.data.data(), floats.data(), count);
    return {floats.begin(), floats.end()};
  }

  static void add(Matrix& x, const Matrix& y) {
    for (std::size_t t = 0; t < x.size(); ++t) {
      for (std::size_t i = 0; i < x[t].size(); ++i) x[t][i] += y[t][i];
    }
  }

  static void normalise(double* x, const Vector& weight) {
    double sum = 0;
    for (std::size_t i = 0; i < weight.size(); ++i) sum += x[i] * x[i];
    const double scale = 1 / std::sqrt(sum / static_cast<double>(weight.size()) + 1e-6);
    for (std::size_t i = 0; i < weight.size(); ++i) x[i] *= scale * weight[i];
  }

  Matrix norm(Matrix x, const std::string& name) {
    const Vector weight = values(name);
    for (Vector& row : x) normalise(row.data(), weight);
    return x;
  }

  Matrix product(const Matrix& x, const std::string& name, const std::string& bias_name) {
    const Vector w = values(name + ".weight");
    const std::size_t in = x.front().size();
    Vector bias(w.size() / in);
    if (model_.find(bias_name) != nullptr) bias = values(bias_name);
    Matrix y(x.size(), bias);
    for (std::size_t t = 0; t < x.size(); ++t) {
      for (std::size_t r = 0; r < bias.size(); ++r) {
        for (std::size_t i = 0; i < in; ++i) y[t][r] += w[r * in + i] * x[t][i];
      }
    }
    return y;
  }
  Matrix layer_product(const Matrix& x, const std::string& name) {
    return product(x, prefix_ + name, prefix_ + name + ".bias");
  }

  // Heads side by side: their norm, if the model has one, then their rotation.
  void finish_heads(Matrix& x, const std::string& norm_name) {
    const bool normed = model_.find(prefix_ + norm_name) != nullptr;
    const Vector weight = normed ? values(prefix_ + norm_name) : Vector();
    for (std::size_t t = 0; t < x.size(); ++t) {
      for (std::size_t at = 0; at < x[t].size(); at += shape_.head_dim) {
        if (normed) normalise(&x[t][at], weight);
        rotate(&x[t][at], t);
      }
    }
  }
  void rotate(double* head, std::size_t position) const {
    const std::size_t pairs = rope_.frequencies.size();
    for (std::size_t i = 0; i < pairs; ++i) {
      const double angle = static_cast<double>(position) * rope_.frequencies[i];
      const double c = rope_.magnitude * std::cos(angle);
      const double s = rope_.magnitude * std::sin(angle);
      const double a = head[i];
      const double b = head[i + pairs];
      head[i] = a * c - b * s;
      head[i + pairs] = a * s + b * c;
    }
  }

  Matrix attention(const Matrix& x) {
    Matrix q = layer_product(x, "attn_q");
    Matrix k = layer_product(x, "attn_k");
    const Matrix v = layer_product(x, "attn_v");
    finish_heads(q, "attn_q_norm.weight");
    finish_heads(k, "attn_k_norm.weight");
    Matrix out(x.size(), Vector(shape_.heads * shape_.head_dim));
    for (std::size_t t = 0; t < x.size(); ++t) {
      for (std::size_t h = 0; h < shape_.heads; ++h) attend(q[t], k, v, t, h, out[t]);
    }
    return layer_product(out, "attn_output");
  }

  void attend(const Vector& q, const Matrix& k, const Matrix& v, std::size_t t, std::size_t h,
              Vector& out) const {
    const std::size_t d = shape_.head_dim;
    const std::size_t from = h * d;
    const std::size_t shared = h / (shape_.heads / shape_.kv_heads) * d;
    Vector weight(t + 1);
    double sum = 0;
    for (std::size_t p = 0; p <= t; ++p) {
      double score = 0;
      for (std::size_t i = 0; i < d; ++i) score += q[from + i] * k[p][shared + i];
      sum += weight[p] = std::exp(score / std::sqrt(static_cast<double>(d)));
    }
    for (std::size_t p = 0; p <= t; ++p) {
      for (std::size_t i = 0; i < d; ++i) out[from + i] += weight[p] / sum * v[p][shared + i];
    }
  }

  Matrix feed_forward(const Matrix& x) {
    Matrix gate = layer_product(x, "ffn_gate");
    const Matrix up = layer_product(x, "ffn_up");
    for (std::size_t t = 0; t < gate.size(); ++t) {
      for (std::size_t i = 0; i < gate[t].size(); ++i) {
        gate[t][i] *= up[t][i] / (1 + std::exp(-gate[t][i]));
      }
    }
    return layer_product(gate, "ffn_down");
  }

  tests::EditedModel& model_;
  const ExactShape& shape_;
  const ExactRope& rope_;
  std::string prefix_;
};

}  // namespace

ExactRope plain_rope(std::size_t dims, double base) {
  ExactRope rope;
  for (std::size_t i = 0; i < dims / 2; ++i) {
    rope.frequencies.push_back(
        std::pow(base, -2 * static_cast<double>(i) / static_cast<double>(dims)));
  }
  return rope;
}

std::vector<double> exact_logits(tests::EditedModel& model, const ExactShape& shape,
                                 const ExactRope& rope,
                                 const std::vector<loaders::TokenId>& tokens) {
  return Pass(model, shape, rope).logits(tokens);
}

}  // namespace tensor_pager::qwen

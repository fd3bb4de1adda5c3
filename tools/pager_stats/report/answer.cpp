// SPDX-License-Identifier: Apache-2.0
#include "report/answer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "units.hpp"

namespace tensor_pager::pager_stats {
namespace {

using Json = nlohmann::ordered_json;

/// Less is no reason to change a budget, and less than what predictions are off by.
constexpr double kWorthwhile = 0.05;

/// One curve: tokens per second by size of the arena.
struct Curve {
  struct Point {
    double bytes = 0;
    double rate = 0;
  };
  std::string name;
  std::vector<Point> points;
  Point own;

  // A run's prefill is one that begins with nothing resident; its generation goes on with what is.
  explicit Curve(const Json& json) : name(json["name"].get<std::string>()) {
    const char* const pass = json["cold"].get<bool>() ? "cold" : "warm";
    for (const Json& point : json["points"]) {
      points.push_back({point["bytes"].get<double>(), point[pass]["tokens_per_s"].get<double>()});
    }
    if (!points.empty()) own = points[json["own"].get<std::size_t>()];
  }

  /// The smallest arena with nearly this rate.
  const Point& smallest(double rate) const {
    return *std::ranges::find_if(
        points, [&](const Point& point) { return point.rate >= (1 - kWorthwhile) * rate; });
  }
  /// The smallest larger arena that is worthwhile and nearly as good as any; nullptr if none is.
  const Point* better() const {
    double best = 0;
    for (const Point& point : points) {
      if (point.bytes > own.bytes) best = std::max(best, point.rate);
    }
    const double least = std::max((1 - kWorthwhile) * best, (1 + kWorthwhile) * own.rate);
    const auto found = std::ranges::find_if(
        points, [&](const Point& point) { return point.bytes > own.bytes && point.rate > least; });
    return found == points.end() ? nullptr : &*found;
  }
};

std::string rate_text(double rate) {
  return fmt::format("{:.{}f}", rate, rate < 10 ? 2 : 1);
}

std::string gain_text(const Curve& curve, const Curve::Point& better, double weights_bytes) {
  return fmt::format(
      "{} would run at {} instead of {} tokens/s ({:+.0f}%) with an arena of {}, {:.0f}% "
      "of the weights",
      curve.name, rate_text(better.rate), rate_text(curve.own.rate),
      100 * (better.rate / curve.own.rate - 1), size(better.bytes),
      percent(better.bytes, weights_bytes));
}

// An arena with which none of the phases is slower to speak of, or 0.
double sufficient(const std::vector<Curve>& curves) {
  double bytes = 0;
  for (const Curve& curve : curves) bytes = std::max(bytes, curve.smallest(curve.own.rate).bytes);
  return bytes;
}

std::string list(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text;
}

}  // namespace

std::string budget_answer(const Json& what_if, double weights_bytes) {
  std::vector<Curve> curves;
  std::string why_not = "the trace has no plan";
  for (const Json& json : what_if) {
    why_not = json["why_not"].get<std::string>();
    if (why_not.empty()) curves.emplace_back(json);
  }
  if (curves.empty()) {
    return fmt::format("Would another budget help? This run cannot tell: {}.", why_not);
  }
  std::vector<std::string> gains;
  std::vector<std::string> others;
  for (const Curve& curve : curves) {
    if (const Curve::Point* const better = curve.better()) {
      gains.push_back(gain_text(curve, *better, weights_bytes));
    } else {
      others.push_back(curve.name);
    }
  }
  std::string text = gains.empty()
                         ? "Would a larger budget help? No: none would make it faster by more "
                           "than 5%"
                         : "Would a larger budget help? Yes: " + list(gains);
  if (!gains.empty() && !others.empty()) {
    text += fmt::format("; {} would not gain", list(others));
  }
  const double enough = sufficient(curves);
  const double own = curves.front().own.bytes;
  if (gains.empty() && enough < 0.9 * own) {
    text += fmt::format(
        ". A smaller one would do: an arena of {}, {:.0f}% of the weights, costs less "
        "than 5%",
        size(enough), percent(enough, weights_bytes));
  }
  return text + ".";
}

}  // namespace tensor_pager::pager_stats

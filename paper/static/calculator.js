"use strict";
// What the claims say of sizes that a reader types: the same formulas as theory/, in floats. A test holds them together.

const limits = {
  // Largest share of two-hop questions that a sum answers, in the mean over tables: claim additive_limit.
  // E C(K, k) <= C(n, k) C(k + m - 1, k) / m^k for every k; the tangent of the interpolated C(., k) gives a ceiling.
  additiveCeiling(n, m) {
    if (n === 1 || m === 1) return 1;
    const most = 1e6; // it falls with n: more bridges get the ceiling of a million
    const size = Math.min(n, most);
    if (m === 2) return limits.twoValues(size);
    const known = size === 2 ? 0.75 + 0.25 / m : (2 + 1 / m) / 3;
    const factorial = new Float64Array(size + 1);
    for (let k = 2; k <= size; k++) factorial[k] = factorial[k - 1] + Math.log(k);
    const moments = new Float64Array(size + 1); // ln C(n, k) C(k + m - 1, k) / m^k
    for (let k = 1, drawn = 0; k <= size; k++) {
      drawn += Math.log1p((k - 1) / m);
      moments[k] = drawn - factorial[k] + factorial[size] - factorial[k] - factorial[size - k];
    }
    const choose = (j, k) => (j < k ? -Infinity : factorial[j] - factorial[k] - factorial[j - k]);
    const place = (k) => {
      let low = k - 1, high = size;
      while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (choose(middle, k) <= moments[k]) low = middle; else high = middle;
      }
      const under = Math.exp(choose(low, k) - moments[k]);
      const over = Math.exp(Math.min(choose(low + 1, k) - moments[k], 700));
      return low + (1 - under) / (over - under);
    };
    const grid = [];
    for (let k = 1; k <= size; k = Math.max(k + 1, Math.floor(k * 1.01))) grid.push(k);
    const places = grid.map(place);
    const at = places.indexOf(Math.min(...places));
    let least = places[at];
    for (let k = grid[Math.max(at - 1, 0)]; k <= grid[Math.min(at + 1, grid.length - 1)]; k++) {
      least = Math.min(least, place(k));
    }
    return Math.min(1, known, least / size);
  },

  // The optimum for two values: 1/2 + E[max of a fair walk] / n.
  twoValues(n) {
    let total = 0, share = 1; // C(2j, j) / 4^j
    for (let j = 1; 2 * j - 1 <= n; j++) {
      share *= (2 * j - 1) / (2 * j);
      total += (share * j) / (2 * j - 1) + (2 * j <= n ? share / 2 : 0);
    }
    return 0.5 + total / n;
  },

  // Most adapters whose mean still prefers the right answer: gain > k deficit; of averaged factors k^2: claim dilution.
  dilutionLimit(gain, deficit, factors = false) {
    if (deficit <= 0) return deficit < 0 || gain > 0 ? Infinity : 0;
    const most = Math.max(Math.ceil((gain / deficit) * (1 - 4 * Number.EPSILON)) - 1, 0);
    return factors ? Math.floor(Math.sqrt(most)) : most;
  },

  // Least rank at which N facts with N answers get their logits, each moving another's by at most eps: margin_rank.
  marginRankFloor(count, eps) {
    const square = Math.min(eps, 1) ** 2;
    let floor = 1, left = 1;
    for (let k = 1; k <= 100; k++) {
      left *= square;
      const wanted = count / (1 + (count - 1) * left);
      let rank = 1;
      for (let step = 2 ** 40; step >= 1; step /= 2) if (limits.chooses(rank + step, k) < wanted) rank += step;
      if (limits.chooses(rank, k) < wanted) rank += 1;
      floor = Math.max(floor, rank);
      if ((count - 1) * left <= 1) break;
    }
    return floor;
  },

  // C(r + k - 1, k), from below where it is not whole.
  chooses(r, k) {
    let found = 1;
    for (let i = 1; i <= k && found < 1e18; i++) found = (found * (r + i - 1)) / i;
    return found;
  },
};

const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const many = (count, one) => `${count.toLocaleString("en-GB")} ${one}${count === 1 ? "" : "s"}`;

// What is said of the form's numbers: id of an element -> its sentence.
function foretell({ bridges, values, adapters, gain, deficit, rank, facts, leak }) {
  const ceiling = limits.additiveCeiling(bridges, values), most = limits.dilutionLimit(gain, deficit);
  const byFactors = limits.dilutionLimit(gain, deficit, true), floor = limits.marginRankFloor(facts, leak);
  const kept = (limit) => (limit === Infinity ? "any number" : limit === 0 ? "no number" : `at most ${limit.toLocaleString("en-GB")}`);
  const alive = (limit) => (adapters <= limit ? "it is still answered" : "it is lost");
  return {
    "says-join": `Where the merged logits are a sum of two adapters' parts, at most ${percent(ceiling)} of two-hop`
      + ` questions over ${many(bridges, "bridge")} and ${many(values, "value")} are right in the mean; guessing has ${percent(1 / values)}.`,
    "says-mean": `The mean of ${many(adapters, "adapter")} writes ${percent(1 / adapters)} of each: a fact with this gain and`
      + ` deficit is answered by the mean of ${kept(most)} of them. In yours ${alive(most)}.`,
    "says-factors": `Averaging A and B apart keeps ${percent(1 / adapters ** 2)} of each and adds terms of no adapter: ${kept(byFactors)};`
      + ` in yours ${alive(byFactors)}, from its own term.`,
    "says-rank": `The exact sum has rank at most ${(adapters * rank).toLocaleString("en-GB")}. One adapter of rank ${rank} writes exact values for at most`
      + ` ${many(rank, "independent fact")}. For ${many(facts, "fact")} that move each other's logits by at most ${leak} of their own,`
      + ` rank ${floor.toLocaleString("en-GB")} is needed: ${rank >= floor ? "yours may be enough" : "yours is too low"}.`,
  };
}

if (typeof document !== "undefined") {
  const form = document.getElementById("calculator");
  const say = () => {
    const fields = [...form.querySelectorAll("input")];
    const sound = fields.every((f) => f.checkValidity() && f.value !== "");
    const said = sound && foretell(Object.fromEntries(fields.map((f) => [f.name, Number(f.value)])));
    for (const p of form.querySelectorAll("output > p")) p.textContent = sound ? said[p.id] : "";
    const wrong = fields.find((f) => !f.checkValidity() || f.value === "");
    document.getElementById("says-wrong").textContent = wrong
      ? `${wrong.labels[0].firstChild.textContent.trim()}: expected ${wrong.title}.` : "";
  };
  form.addEventListener("input", say);
  form.addEventListener("submit", (event) => event.preventDefault());
  say();
}

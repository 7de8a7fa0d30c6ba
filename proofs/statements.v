(* Written from the registry by `python -m theory statements --write`; do not edit.
   What Coq prints for it is kept in statements.v.out and compared at every verification. *)
From mathcomp Require Import all_ssreflect all_algebra.
From LoraLimits Require Import lowrank adapters approximation networks facts merging continual routing additive composition.
Set Printing Width 110.
Local Open Scope ring_scope.

(* adapter_algebra *)
Check @adapters.adapter_zero.
Print Assumptions adapters.adapter_zero.

(* adapter_algebra *)
Check @adapters.adapter_merge.
Print Assumptions adapters.adapter_merge.

(* adapter_algebra *)
Check @adapters.adapter_tied.
Print Assumptions adapters.adapter_tied.

(* adapter_algebra *)
Check @adapters.adapter_gauge.
Print Assumptions adapters.adapter_gauge.

(* adapter_algebra *)
Check @adapters.adapter_gauge_unique.
Print Assumptions adapters.adapter_gauge_unique.

(* adapter_algebra *)
Check @adapters.adapter_rank_le.
Print Assumptions adapters.adapter_rank_le.

(* adapter_algebra *)
Check @adapters.adapter_rankP.
Print Assumptions adapters.adapter_rankP.

(* adapter_algebra *)
Check @adapters.adapter_out_of_reach.
Print Assumptions adapters.adapter_out_of_reach.

(* adapter_algebra *)
Check @adapters.adapter_dimension.
Print Assumptions adapters.adapter_dimension.

(* adapter_algebra *)
Check @adapters.adapter_chart.
Print Assumptions adapters.adapter_chart.

(* adapter_algebra *)
Check @adapters.adapter_parameter_count.
Print Assumptions adapters.adapter_parameter_count.

(* adapter_algebra *)
Check @adapters.adapter_generic.
Print Assumptions adapters.adapter_generic.

(* first_step_size *)
Check @adapters.first_step_gradient.
Print Assumptions adapters.first_step_gradient.

(* first_step_size *)
Check @adapters.first_step_size.
Print Assumptions adapters.first_step_size.

(* first_step_size *)
Check @adapters.first_step_transposed.
Print Assumptions adapters.first_step_transposed.

(* first_step_size *)
Check @adapters.first_step_descent.
Print Assumptions adapters.first_step_descent.

(* first_step_size *)
Check @adapters.first_step_mean.
Print Assumptions adapters.first_step_mean.

(* first_step_size *)
Check @adapters.first_step_adam.
Print Assumptions adapters.first_step_adam.

(* first_step_size *)
Check @adapters.first_step_adam_mean.
Print Assumptions adapters.first_step_adam_mean.

(* first_step_size *)
Check @adapters.first_step_conventions.
Print Assumptions adapters.first_step_conventions.

(* eckart_young *)
Check @approximation.eckart_young.
Print Assumptions approximation.eckart_young.

(* eckart_young *)
Check @approximation.singular_value_decomposition.
Print Assumptions approximation.singular_value_decomposition.

(* eckart_young *)
Check @approximation.singular_values_unique.
Print Assumptions approximation.singular_values_unique.

(* eckart_young *)
Check @approximation.spectral_norm_least.
Print Assumptions approximation.spectral_norm_least.

(* eckart_young *)
Check @approximation.eckart_young_spectral.
Print Assumptions approximation.eckart_young_spectral.

(* eckart_young *)
Check @approximation.eckart_young_spectral_attained.
Print Assumptions approximation.eckart_young_spectral_attained.

(* eckart_young *)
Check @approximation.eckart_young_frobenius.
Print Assumptions approximation.eckart_young_frobenius.

(* eckart_young *)
Check @approximation.eckart_young_frobenius_attained.
Print Assumptions approximation.eckart_young_frobenius_attained.

(* deep_linear *)
Check @approximation.deep_linear.
Print Assumptions approximation.deep_linear.

(* deep_linear *)
Check @approximation.deep_linear_exact.
Print Assumptions approximation.deep_linear_exact.

(* deep_linear *)
Check @approximation.deep_linear_rectangular.
Print Assumptions approximation.deep_linear_rectangular.

(* deep_linear *)
Check @approximation.deep_linear_rank_rectangular.
Print Assumptions approximation.deep_linear_rank_rectangular.

(* deep_linear *)
Check @approximation.deep_linear_attained.
Print Assumptions approximation.deep_linear_attained.

(* deep_linear *)
Check @approximation.deep_linear_floor.
Print Assumptions approximation.deep_linear_floor.

(* deep_linear *)
Check @approximation.deep_linear_floor_attained.
Print Assumptions approximation.deep_linear_floor_attained.

(* deep_linear *)
Check @approximation.deep_linear_truncated_targets.
Print Assumptions approximation.deep_linear_truncated_targets.

(* deep_linear *)
Check @approximation.deep_linear_rectangular_attained.
Print Assumptions approximation.deep_linear_rectangular_attained.

(* deep_linear *)
Check @approximation.deep_linear_rectangular_floor.
Print Assumptions approximation.deep_linear_rectangular_floor.

(* merge_and_reset *)
Check @approximation.merge_and_reset.
Print Assumptions approximation.merge_and_reset.

(* spectral_concentration *)
Check @approximation.spectral_concentration_geometric.
Print Assumptions approximation.spectral_concentration_geometric.

(* spectral_concentration *)
Check @approximation.spectral_concentration_geometric_rank.
Print Assumptions approximation.spectral_concentration_geometric_rank.

(* spectral_concentration *)
Check @approximation.spectral_concentration_harmonic.
Print Assumptions approximation.spectral_concentration_harmonic.

(* spectral_concentration *)
Check @approximation.spectral_concentration_sums.
Print Assumptions approximation.spectral_concentration_sums.

(* relu_network *)
Check @networks.relu_network.
Print Assumptions networks.relu_network.

(* relu_network *)
Check @networks.relu_network_affine.
Print Assumptions networks.relu_network_affine.

(* relu_network *)
Check @networks.relu_network_groups.
Print Assumptions networks.relu_network_groups.

(* relu_network *)
Check @networks.relu_network_perturbed.
Print Assumptions networks.relu_network_perturbed.

(* relu_network *)
Check @networks.relu_network_perturbed_attained.
Print Assumptions networks.relu_network_perturbed_attained.

(* relu_network *)
Check @networks.relu_network_bound.
Print Assumptions networks.relu_network_bound.

(* relu_network *)
Check @networks.relu_network_bound_attained.
Print Assumptions networks.relu_network_bound_attained.

(* transformer *)
Check @networks.transformer.
Print Assumptions networks.transformer.

(* transformer *)
Check @networks.transformer_pair.
Print Assumptions networks.transformer_pair.

(* transformer *)
Check @networks.transformer_product.
Print Assumptions networks.transformer_product.

(* transformer *)
Check @networks.transformer_scores.
Print Assumptions networks.transformer_scores.

(* transformer *)
Check @networks.transformer_product_halfway.
Print Assumptions networks.transformer_product_halfway.

(* transformer *)
Check @networks.transformer_calibrated.
Print Assumptions networks.transformer_calibrated.

(* fact_rank *)
Check @facts.fact_rank.
Print Assumptions facts.fact_rank.

(* fact_rank *)
Check @facts.fact_rank_independent.
Print Assumptions facts.fact_rank_independent.

(* fact_rank *)
Check @facts.fact_rank_least_norm.
Print Assumptions facts.fact_rank_least_norm.

(* margin_rank *)
Check @facts.margin_rank.
Print Assumptions facts.margin_rank.

(* margin_rank *)
Check @facts.trace_rank.
Print Assumptions facts.trace_rank.

(* margin_rank *)
Check @facts.margin_rank_total.
Print Assumptions facts.margin_rank_total.

(* margin_rank *)
Check @facts.margin_rank_mean_square.
Print Assumptions facts.margin_rank_mean_square.

(* margin_rank *)
Check @facts.margin_rank_shared.
Print Assumptions facts.margin_rank_shared.

(* margin_rank *)
Check @facts.margin_rank_keys.
Print Assumptions facts.margin_rank_keys.

(* margin_rank *)
Check @facts.margin_rank_keys_mean_square.
Print Assumptions facts.margin_rank_keys_mean_square.

(* margin_rank *)
Check @facts.rank_entrywise_power.
Print Assumptions facts.rank_entrywise_power.

(* margin_rank *)
Check @facts.margin_rank_powers.
Print Assumptions facts.margin_rank_powers.

(* margin_rank *)
Check @facts.margin_rank_powers_keys.
Print Assumptions facts.margin_rank_powers_keys.

(* margin_rank *)
Check @facts.margin_rank_attained.
Print Assumptions facts.margin_rank_attained.

(* margin_rank *)
Check @facts.margin_circle.
Print Assumptions facts.margin_circle.

(* margin_rank *)
Check @facts.margin_circle_update.
Print Assumptions facts.margin_circle_update.

(* margin_rank *)
Check @facts.argmax_rank_one.
Print Assumptions facts.argmax_rank_one.

(* margin_rank *)
Check @facts.random_codes.
Print Assumptions facts.random_codes.

(* margin_rank *)
Check @facts.margin_codes.
Print Assumptions facts.margin_codes.

(* capacity_bits *)
Check @facts.capacity_bits.
Print Assumptions facts.capacity_bits.

(* capacity_bits *)
Check @facts.counting_bound.
Print Assumptions facts.counting_bound.

(* capacity_bits *)
Check @facts.counting_mean.
Print Assumptions facts.counting_mean.

(* capacity_bits *)
Check @facts.counting_single.
Print Assumptions facts.counting_single.

(* capacity_bits *)
Check @facts.counting_mean_single.
Print Assumptions facts.counting_mean_single.

(* capacity_bits *)
Check @facts.counting_tail.
Print Assumptions facts.counting_tail.

(* capacity_bits *)
Check @facts.counting_mean_accuracy.
Print Assumptions facts.counting_mean_accuracy.

(* capacity_bits *)
Check @facts.counting_ceiling_single.
Print Assumptions facts.counting_ceiling_single.

(* capacity_bits *)
Check @facts.counting_ceiling_monotone.
Print Assumptions facts.counting_ceiling_monotone.

(* capacity_bits *)
Check @facts.counting_ceiling_le1.
Print Assumptions facts.counting_ceiling_le1.

(* merge_rank *)
Check @merging.merge_rank.
Print Assumptions merging.merge_rank.

(* merge_rank *)
Check @merging.merge_rank_sum.
Print Assumptions merging.merge_rank_sum.

(* merge_rank *)
Check @merging.merge_rank_eq.
Print Assumptions merging.merge_rank_eq.

(* merge_rank *)
Check @merging.merge_rank_factors.
Print Assumptions merging.merge_rank_factors.

(* merge_rank *)
Check @merging.merge_rank_truncate.
Print Assumptions merging.merge_rank_truncate.

(* factor_average *)
Check @merging.factor_average.
Print Assumptions merging.factor_average.

(* factor_average *)
Check @merging.factor_average_sqrt.
Print Assumptions merging.factor_average_sqrt.

(* factor_average *)
Check @merging.factor_average_plain.
Print Assumptions merging.factor_average_plain.

(* factor_average *)
Check @merging.factor_average_exact.
Print Assumptions merging.factor_average_exact.

(* factor_average *)
Check @merging.factor_average_neq0.
Print Assumptions merging.factor_average_neq0.

(* factor_average *)
Check @merging.factor_average_gauge.
Print Assumptions merging.factor_average_gauge.

(* factor_average *)
Check @merging.factor_average_col_direct.
Print Assumptions merging.factor_average_col_direct.

(* factor_average *)
Check @merging.factor_average_rank.
Print Assumptions merging.factor_average_rank.

(* factor_average *)
Check @merging.factor_average_sqrt_error.
Print Assumptions merging.factor_average_sqrt_error.

(* factor_average *)
Check @merging.factor_average_plain_error.
Print Assumptions merging.factor_average_plain_error.

(* dilution *)
Check @merging.dilution.
Print Assumptions merging.dilution.

(* dilution *)
Check @merging.dilution_factor.
Print Assumptions merging.dilution_factor.

(* dilution *)
Check @merging.dilution_factor_own.
Print Assumptions merging.dilution_factor_own.

(* dilution *)
Check @merging.dilution_factor_cross.
Print Assumptions merging.dilution_factor_cross.

(* dilution *)
Check @merging.dilution_factor_opposite.
Print Assumptions merging.dilution_factor_opposite.

(* dilution *)
Check @merging.dilution_limit.
Print Assumptions merging.dilution_limit.

(* optimal_weights *)
Check @merging.optimal_weights_lead.
Print Assumptions merging.optimal_weights_lead.

(* optimal_weights *)
Check @merging.optimal_weights.
Print Assumptions merging.optimal_weights.

(* optimal_weights *)
Check @merging.optimal_weights_uniform.
Print Assumptions merging.optimal_weights_uniform.

(* optimal_weights *)
Check @merging.optimal_weights_apart.
Print Assumptions merging.optimal_weights_apart.

(* optimal_weights *)
Check @merging.optimal_weights_need.
Print Assumptions merging.optimal_weights_need.

(* mask_dilution *)
Check @merging.mask_dilution.
Print Assumptions merging.mask_dilution.

(* mask_dilution *)
Check @merging.mask_dilution_answer.
Print Assumptions merging.mask_dilution_answer.

(* mask_dilution *)
Check @merging.mask_dilution_rescaled.
Print Assumptions merging.mask_dilution_rescaled.

(* interference *)
Check @merging.interference.
Print Assumptions merging.interference.

(* interference *)
Check @merging.interference_bound.
Print Assumptions merging.interference_bound.

(* interference *)
Check @merging.interference_bound_frob.
Print Assumptions merging.interference_bound_frob.

(* interference *)
Check @merging.interference_survival.
Print Assumptions merging.interference_survival.

(* interference *)
Check @merging.interference_survival_logits.
Print Assumptions merging.interference_survival_logits.

(* interference *)
Check @merging.interference_survival_coherence.
Print Assumptions merging.interference_survival_coherence.

(* interference *)
Check @merging.interference_survival_norm.
Print Assumptions merging.interference_survival_norm.

(* interference *)
Check @merging.interference_survival_root2.
Print Assumptions merging.interference_survival_root2.

(* interference *)
Check @merging.interference_edits.
Print Assumptions merging.interference_edits.

(* interference *)
Check @merging.interference_edits_coherence.
Print Assumptions merging.interference_edits_coherence.

(* round_dilution *)
Check @continual.round_dilution.
Print Assumptions continual.round_dilution.

(* round_dilution *)
Check @continual.round_dilution_answer.
Print Assumptions continual.round_dilution_answer.

(* round_dilution *)
Check @continual.round_dilution_lasts.
Print Assumptions continual.round_dilution_lasts.

(* round_dilution *)
Check @continual.round_dilution_reached.
Print Assumptions continual.round_dilution_reached.

(* telescoping_merge *)
Check @continual.telescoping_merge_sum.
Print Assumptions continual.telescoping_merge_sum.

(* telescoping_merge *)
Check @continual.telescoping_merge.
Print Assumptions continual.telescoping_merge.

(* telescoping_merge *)
Check @continual.telescoping_merge_reset.
Print Assumptions continual.telescoping_merge_reset.

(* telescoping_merge *)
Check @continual.telescoping_merge_attained.
Print Assumptions continual.telescoping_merge_attained.

(* frozen_route_drift *)
Check @continual.frozen_route_drift.
Print Assumptions continual.frozen_route_drift.

(* frozen_route_drift *)
Check @continual.frozen_route_drift_gauge.
Print Assumptions continual.frozen_route_drift_gauge.

(* frozen_route_drift *)
Check @continual.frozen_route_drift_alone.
Print Assumptions continual.frozen_route_drift_alone.

(* frozen_route_drift *)
Check @continual.frozen_route_rank.
Print Assumptions continual.frozen_route_rank.

(* exposure_law *)
Check @continual.exposure_law.
Print Assumptions continual.exposure_law.

(* hard_routing *)
Check @routing.hard_routing.
Print Assumptions routing.hard_routing.

(* hard_routing *)
Check @routing.blind_to_bridge.
Print Assumptions routing.blind_to_bridge.

(* hard_routing *)
Check @routing.blind_to_bridge_attained.
Print Assumptions routing.blind_to_bridge_attained.

(* hard_routing *)
Check @routing.blind_to_table.
Print Assumptions routing.blind_to_table.

(* hard_routing *)
Check @routing.hard_routing_choices.
Print Assumptions routing.hard_routing_choices.

(* hard_routing *)
Check @routing.hard_routing_router.
Print Assumptions routing.hard_routing_router.

(* hard_routing *)
Check @routing.hard_routing_strict.
Print Assumptions routing.hard_routing_strict.

(* hard_routing *)
Check @routing.hard_routing_accuracy.
Print Assumptions routing.hard_routing_accuracy.

(* gated_merge *)
Check @routing.gated_merge.
Print Assumptions routing.gated_merge.

(* gated_merge *)
Check @routing.gated_merge_gates.
Print Assumptions routing.gated_merge_gates.

(* gated_merge *)
Check @routing.gated_merge_ignored.
Print Assumptions routing.gated_merge_ignored.

(* gated_merge *)
Check @routing.gated_merge_best.
Print Assumptions routing.gated_merge_best.

(* gated_merge *)
Check @routing.gated_merge_limit.
Print Assumptions routing.gated_merge_limit.

(* gated_merge *)
Check @routing.gated_merge_groups.
Print Assumptions routing.gated_merge_groups.

(* gated_merge *)
Check @routing.gated_merge_sign_needed.
Print Assumptions routing.gated_merge_sign_needed.

(* gated_merge *)
Check @routing.gated_merge_bridge.
Print Assumptions routing.gated_merge_bridge.

(* additive_limit *)
Check @additive.additive_limit.
Print Assumptions additive.additive_limit.

(* additive_limit *)
Check @additive.additive_limit_lt.
Print Assumptions additive.additive_limit_lt.

(* additive_limit *)
Check @additive.additive_part_answers.
Print Assumptions additive.additive_part_answers.

(* additive_limit *)
Check @additive.additive_limit_robust.
Print Assumptions additive.additive_limit_robust.

(* additive_limit *)
Check @additive.linear_merge_limit.
Print Assumptions additive.linear_merge_limit.

(* additive_limit *)
Check @additive.reaches_counts_inj.
Print Assumptions additive.reaches_counts_inj.

(* additive_limit *)
Check @additive.additive_patterns.
Print Assumptions additive.additive_patterns.

(* additive_limit *)
Check @additive.additive_limit_counting.
Print Assumptions additive.additive_limit_counting.

(* additive_limit *)
Check @additive.weighted_merge_limit.
Print Assumptions additive.weighted_merge_limit.

(* additive_limit *)
Check @additive.soft_routing_limit.
Print Assumptions additive.soft_routing_limit.

(* additive_limit *)
Check @additive.additive_part_limit.
Print Assumptions additive.additive_part_limit.

(* additive_limit *)
Check @additive.network_margin_limit.
Print Assumptions additive.network_margin_limit.

(* additive_limit *)
Check @additive.interaction_carries_excess.
Print Assumptions additive.interaction_carries_excess.

(* additive_limit *)
Check @additive.linear_merge_counting.
Print Assumptions additive.linear_merge_counting.

(* additive_limit *)
Check @additive.additive_limit_three.
Print Assumptions additive.additive_limit_three.

(* additive_limit *)
Check @additive.additive_limit_fewer_bridges.
Print Assumptions additive.additive_limit_fewer_bridges.

(* additive_limit *)
Check @additive.additive_lightest_order.
Print Assumptions additive.additive_lightest_order.

(* additive_limit *)
Check @additive.additive_lightest_distinct.
Print Assumptions additive.additive_lightest_distinct.

(* additive_limit *)
Check @additive.additive_moments.
Print Assumptions additive.additive_moments.

(* additive_limit *)
Check @additive.additive_moments_weighted.
Print Assumptions additive.additive_moments_weighted.

(* additive_limit *)
Check @additive.additive_moments_injective.
Print Assumptions additive.additive_moments_injective.

(* additive_limit *)
Check @additive.additive_moment_markov.
Print Assumptions additive.additive_moment_markov.

(* additive_limit *)
Check @additive.additive_tail_counting.
Print Assumptions additive.additive_tail_counting.

(* additive_limit *)
Check @additive.bin_tangent.
Print Assumptions additive.bin_tangent.

(* additive_limit *)
Check @additive.additive_tangent.
Print Assumptions additive.additive_tangent.

(* additive_limit *)
Check @additive.additive_mean_of_tails.
Print Assumptions additive.additive_mean_of_tails.

(* additive_limit *)
Check @additive.additive_limit_moments.
Print Assumptions additive.additive_limit_moments.

(* additive_limit *)
Check @additive.additive_limit_attained.
Print Assumptions additive.additive_limit_attained.

(* additive_limit *)
Check @additive.patterns_ceiling_card2.
Print Assumptions additive.patterns_ceiling_card2.

(* additive_limit *)
Check @additive.additive_patterns_attained.
Print Assumptions additive.additive_patterns_attained.

(* additive_limit *)
Check @additive.additive_optimum_patterns.
Print Assumptions additive.additive_optimum_patterns.

(* additive_limit *)
Check @additive.additive_products_score.
Print Assumptions additive.additive_products_score.

(* additive_limit *)
Check @additive.additive_limit_three_attained.
Print Assumptions additive.additive_limit_three_attained.

(* additive_limit *)
Check @additive.additive_two_values.
Print Assumptions additive.additive_two_values.

(* additive_limit *)
Check @additive.additive_two_values_attained.
Print Assumptions additive.additive_two_values_attained.

(* additive_limit *)
Check @additive.additive_two_values_walk.
Print Assumptions additive.additive_two_values_walk.

(* additive_limit *)
Check @additive.patterns_ceiling_vanishes.
Print Assumptions additive.patterns_ceiling_vanishes.

(* additive_limit *)
Check @additive.additive_limit_vanishes.
Print Assumptions additive.additive_limit_vanishes.

(* few_numbers *)
Check @additive.few_numbers_patterns.
Print Assumptions additive.few_numbers_patterns.

(* few_numbers *)
Check @additive.few_numbers_attained.
Print Assumptions additive.few_numbers_attained.

(* few_numbers *)
Check @additive.few_numbers_moments.
Print Assumptions additive.few_numbers_moments.

(* few_numbers *)
Check @additive.few_numbers_tangent.
Print Assumptions additive.few_numbers_tangent.

(* few_numbers *)
Check @additive.few_numbers_factors.
Print Assumptions additive.few_numbers_factors.

(* few_numbers *)
Check @additive.few_numbers_factor_moments.
Print Assumptions additive.few_numbers_factor_moments.

(* few_numbers *)
Check @additive.few_numbers_all_tables.
Print Assumptions additive.few_numbers_all_tables.

(* few_numbers *)
Check @additive.few_numbers_compose.
Print Assumptions additive.few_numbers_compose.

(* few_numbers *)
Check @additive.few_numbers_share.
Print Assumptions additive.few_numbers_share.

(* one_layer_composition *)
Check @composition.one_layer_composition.
Print Assumptions composition.one_layer_composition.

(* one_layer_composition *)
Check @composition.joint_edit_least.
Print Assumptions composition.joint_edit_least.

(* one_layer_composition *)
Check @composition.joint_edit_unique.
Print Assumptions composition.joint_edit_unique.

(* one_layer_composition *)
Check @composition.rank_one_edit.
Print Assumptions composition.rank_one_edit.

(* one_layer_composition *)
Check @composition.one_layer_limit.
Print Assumptions composition.one_layer_limit.

(* one_layer_composition *)
Check @composition.one_layer_direct.
Print Assumptions composition.one_layer_direct.

(* bridge_alignment *)
Check @composition.bridge_alignment.
Print Assumptions composition.bridge_alignment.

(* bridge_alignment *)
Check @composition.bridge_alignment_joint.
Print Assumptions composition.bridge_alignment_joint.

(* bridge_alignment *)
Check @composition.bridge_alignment_answer.
Print Assumptions composition.bridge_alignment_answer.

(* bridge_alignment *)
Check @composition.alignment_margin.
Print Assumptions composition.alignment_margin.

(* layer_order *)
Check @composition.layer_order_last.
Print Assumptions composition.layer_order_last.

(* layer_order *)
Check @composition.layer_order_early_late.
Print Assumptions composition.layer_order_early_late.

(* layer_order *)
Check @composition.layer_order_early_late_right.
Print Assumptions composition.layer_order_early_late_right.

(* layer_order *)
Check @composition.layer_order_early_late_joint.
Print Assumptions composition.layer_order_early_late_joint.

(* layer_order *)
Check @composition.layer_order_early_late_robust.
Print Assumptions composition.layer_order_early_late_robust.

(* layer_order *)
Check @composition.layer_order_robust_sharp.
Print Assumptions composition.layer_order_robust_sharp.

(* layer_order *)
Check @composition.layer_order_first_linear.
Print Assumptions composition.layer_order_first_linear.

(* layer_order *)
Check @composition.layer_order_late_unread.
Print Assumptions composition.layer_order_late_unread.

(* layer_order *)
Check @composition.layer_order_late_orthogonal.
Print Assumptions composition.layer_order_late_orthogonal.

(* layer_order *)
Check @composition.layer_order_late_limit.
Print Assumptions composition.layer_order_late_limit.

(* layer_order *)
Check @composition.layer_order_late_relu.
Print Assumptions composition.layer_order_late_relu.

(* layer_order *)
Check @composition.layer_order_late_sign_needed.
Print Assumptions composition.layer_order_late_sign_needed.

(* layer_order *)
Check @composition.layer_order_late_joint_edit.
Print Assumptions composition.layer_order_late_joint_edit.

(* layer_order *)
Check @composition.layer_order_compose_late.
Print Assumptions composition.layer_order_compose_late.

(* layer_order *)
Check @composition.layer_order_compose_first_hop.
Print Assumptions composition.layer_order_compose_first_hop.

(* layer_order *)
Check @composition.layer_order_compose_frozen.
Print Assumptions composition.layer_order_compose_frozen.

(* few_writings_limit *)
Check @composition.few_writings_limit.
Print Assumptions composition.few_writings_limit.

(* few_writings_limit *)
Check @composition.few_writings_attained.
Print Assumptions composition.few_writings_attained.

(* coverage_law *)
Check @composition.coverage_law.
Print Assumptions composition.coverage_law.

(* coverage_law *)
Check @composition.coverage_law_low.
Print Assumptions composition.coverage_law_low.

(* coverage_law *)
Check @composition.coverage_law_high.
Print Assumptions composition.coverage_law_high.

(* chain_of_thought *)
Check @composition.chain_of_thought.
Print Assumptions composition.chain_of_thought.

(* chain_of_thought *)
Check @composition.chain_of_thought_count.
Print Assumptions composition.chain_of_thought_count.

(* chain_of_thought *)
Check @composition.chain_of_thought_independent.
Print Assumptions composition.chain_of_thought_independent.

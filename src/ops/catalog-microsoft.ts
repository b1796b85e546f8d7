/** The operators of domain com.microsoft in ONNX Runtime 1.30, as its schemas state them. Rows as in catalog-onnx.ts. */
export const microsoftOperators = {
  Attention: [
    "1 | input weights bias? mask_index? past? attention_bias? past_sequence_length? -> output present? | do_rotary:int mask_filter_value:float num_heads:int! past_present_share_buffer:int qkv_hidden_sizes:ints rotary_embedding_dim:int scale:float unidirectional:int=0",
  ],
  AttnLSTM: [
    "1 | X W R B? sequence_lens? initial_h? initial_c? P? QW? MW? V? M? memory_seq_lens? AW? -> Y? Y_h? Y_c? | activation_alpha:floats activation_beta:floats activations:strings clip:float direction:string=forward hidden_size:int input_forget:int=0",
  ],
  BeamSearch: [
    "1 | input_ids max_length min_length? num_beams num_return_sequences length_penalty? repetition_penalty? vocab_mask? prefix_vocab_mask? attention_mask? decoder_input_ids? logits_processor? -> sequences sequences_scores? scores? | decoder:graph! decoder_start_token_id:int=-1 early_stopping:int=0 encoder:graph eos_token_id:int! init_decoder:graph model_type:int=0 no_repeat_ngram_size:int=0 pad_token_id:int! vocab_size:int=-1",
  ],
  BiasAdd: ["1 | X bias skip -> Y"],
  BiasDropout: ["1 | data bias residual? ratio? training_mode? -> output mask? | seed:int"],
  BiasGelu: ["1 | A B -> C"],
  BiasSoftmax: ["1 | data bias -> output | axis:int=1 is_inner_broadcast:int!"],
  BiasSplitGelu: ["1 | X bias -> Y"],
  BifurcationDetector: [
    "1 | src_tokens cur_tokens prev_suffix_match_idx pred_tokens? -> tokens suffix_match_idx | max_ngram_size:int=3 min_ngram_size:int=1",
  ],
  BitmaskBiasDropout: ["1 | data bias residual? ratio? training_mode? -> output mask? | seed:int"],
  BitmaskDropout: ["1 | data ratio? training_mode? -> output mask? | seed:int"],
  CDist: ["1 | A B -> C | metric:string=sqeuclidean"],
  CausalConvWithState: [
    "1 | input weight bias? past_state? -> output present_state | activation:string=none channels_last:int=0 dilation:int=1 ndim:int=1 state_window:int=0",
  ],
  ComplexMul: ["1 | A B -> C"],
  ComplexMulConj: ["1 | A B -> C"],
  ConvTransposeWithDynamicPads: [
    "1 | X W Pads? B? -> Y | auto_pad:string=NOTSET dilations:ints group:int=1 kernel_shape:ints output_padding:ints strides:ints",
  ],
  CropAndResize: ["1 | X rois batch_indices crop_size -> Y | extrapolation_value:float=0 mode:string=bilinear"],
  DecoderAttention: [
    "1 | query key q_weight kv_weight bias key_padding_mask? key_cache? value_cache? static_kv use_past has_layer_state has_key_padding_mask -> output new_key_cache? new_value_cache? | mask_filter_value:float num_heads:int!",
  ],
  DecoderMaskedMultiHeadAttention: [
    "1 | query key? value? mask_index? attention_bias? past_key? past_value? past_sequence_length? beam_width? cache_indirection? bias? -> output present_key? present_value? qk? | mask_filter_value:float num_heads:int! output_qk:int past_present_share_buffer:int scale:float",
  ],
  DecoderMaskedSelfAttention: [
    "1 | input weights bias mask_index? past attention_bias? past_sequence_length beam_width? cache_indirection? -> output present | do_rotary:int mask_filter_value:float num_heads:int! past_present_share_buffer:int scale:float",
  ],
  DequantizeBFP: ["1 | x shape strides -> y | bfp_type:int! block_dim:int=-1 dtype:int=1"],
  DequantizeLinear: ["1 | x x_scale x_zero_point? -> y | axis:int"],
  DequantizeWithOrder: ["1 | input scale_input -> output | order_input:int! order_output:int! to:int!"],
  DynamicQuantizeLSTM: [
    "1 | X W R B? sequence_lens? initial_h? initial_c? P? W_scale W_zero_point R_scale R_zero_point -> Y? Y_h? Y_c? | activation_alpha:floats activation_beta:floats activations:strings clip:float direction:string=forward hidden_size:int input_forget:int=0",
  ],
  DynamicQuantizeMatMul: ["1 | A B b_scale b_zero_point? bias? -> Y"],
  DynamicTimeWarping: ["1 | input -> output"],
  EPContext: [
    "1 | inputs* -> outputs+ | embed_mode:int=1 ep_cache_context:string ep_sdk_version:string hardware_architecture:string main_context:int=1 max_size:int=0 notes:string onnx_model_filename:string partition_name:string source:string",
  ],
  EmbedLayerNormalization: [
    "1 | input_ids segment_ids? word_embedding position_embedding segment_embedding? gamma beta mask? position_ids? -> output mask_index? embedding_sum? | epsilon:float=1e-12 mask_index_type:int",
  ],
  EngramGate: ["1 | key query value key_norm_scale query_norm_scale -> output | epsilon:float=1e-05"],
  ExpandDims: ["1 | X axis -> Y"],
  FastGelu: ["1 | X bias? -> Y"],
  FusedConv: [
    "1 | X W B? Z? -> Y | activation:string activation_params:floats auto_pad:string=NOTSET dilations:ints group:int=1 kernel_shape:ints pads:ints strides:ints",
  ],
  FusedGemm: [
    "1 | A B C? -> Y | activation:string activation_alpha:float activation_beta:float activation_gamma:float alpha:float=1 beta:float=1 transA:int=0 transB:int=0",
  ],
  FusedMatMul: ["1 | A B -> Y | alpha:float=1 transA:int=0 transB:int=0 transBatchA:int=0 transBatchB:int=0"],
  FusedMatMulActivation: [
    "1 | A B -> Y | activation:string! activation_alpha:float activation_axis:int activation_beta:float activation_gamma:float alpha:float=1 transA:int=0 transB:int=0 transBatchA:int=0 transBatchB:int=0",
  ],
  GatedAdd: ["1 | X Y gate -> output"],
  GatedDeltaNet: [
    "1 | query key value cu_seqlens? decay? beta? initial_state? a_log? dt_bias? capture_count? state_update_active? -> output final_state? state_update? | beta_activation:string=none chunk_size:int=64 gate_activation:string=none qk_l2_norm:int=0 scale:float=0 state_update_capacity:int=0 update_rule:string=gated_delta",
  ],
  GatedRMSNorm: ["1 | X scale gate -> Y | epsilon:float=1e-05"],
  GatedRelativePositionBias: [
    "1 | query_layer query_bias rel_pos weight bias eco_a token_offset? -> output | num_heads:int!",
  ],
  GatherBlockQuantized: [
    "1 | data indices scales zero_points? -> output | bits:int=4 block_size:int=128 gather_axis:int=0 quantize_axis:int=1",
  ],
  GatherND: ["1 | data indices -> output"],
  Gelu: ["1 | X -> Y"],
  GemmFastGelu: ["1 | X W bias? -> Y"],
  GemmFloat8: [
    "1 | A B C? scaleA? scaleB? scaleY? -> Y | activation:string alpha:float=1 beta:float=0 dtype:int=1 transA:int=0 transB:int=0",
  ],
  GemmaRotaryEmbedding: ["1 | emb q q_rot k k_rot -> output1 output2"],
  GreedySearch: [
    "1 | input_ids max_length min_length? repetition_penalty? vocab_mask? prefix_vocab_mask? attention_mask? -> sequences | decoder:graph! decoder_start_token_id:int=-1 encoder:graph eos_token_id:int! init_decoder:graph model_type:int=0 no_repeat_ngram_size:int=0 pad_token_id:int! vocab_size:int=-1",
  ],
  GridSample: ["1 | X Grid -> Y | align_corners:int=0 mode:string=bilinear padding_mode:string=zeros"],
  GroupNorm: ["1 | X gamma beta -> Y | activation:int! channels_last:int=1 epsilon:float=1e-05 groups:int!"],
  GroupQueryAttention: [
    "1 | query key? value? past_key? past_value? seqlens_k total_sequence_length cos_cache? sin_cache? position_ids? attention_bias? head_sink? k_scale? v_scale? q_norm_weight? k_norm_weight? -> output present_key? present_value? output_qk? | causal:int=1 do_rotary:int k_quant_type:string=NONE kv_cache_bit_width:int kv_num_heads:int! local_window_size:int=-1 num_heads:int! qk_norm_epsilon:float=1e-06 qk_output:int=0 rotary_interleaved:int scale:float sliding_window_cache:int=0 smooth_softmax:int=-1 softcap:float v_quant_type:string=NONE",
  ],
  Inverse: ["1 | X -> Y"],
  Irfft: ["1 | X -> Y | normalized:int=0 onesided:int=1 signal_ndim:int!"],
  IsAllFinite: ["1 | input+ -> output | isinf_only:int=0 isnan_only:int=0"],
  LinearAttention: [
    "1 | query key value past_state? decay? beta? -> output present_state | chunk_size:int=64 kv_num_heads:int! q_num_heads:int! scale:float=0 state_window:int=0 update_rule:string=gated_delta",
  ],
  LinearAttentionGate: ["1 | a dt_bias decay_scale b? -> decay beta?"],
  LongformerAttention: [
    "1 | input weight bias mask global_weight global_bias global -> output | num_heads:int! window:int!",
  ],
  MRotaryEmbedding: [
    "1 | input position_ids cos_cache sin_cache -> output | interleaved:int is_packed_batching:int mrope_layout:int mrope_section:ints! num_heads:int rotary_embedding_dim:int scale:float",
  ],
  MatMulBlockQuantizedFp4Weight: ["1 | A B weight_scale weight_scale_2 input_scale? bias? -> Y | block_size:int=16"],
  MatMulBlockQuantizedFp8Weight: ["1 | A B b_scale a_scale? bias? -> Y | block_size:int=128"],
  MatMulBnb4: ["1 | A B absmax -> Y | K:int! N:int! block_size:int! quant_type:int! training_mode:int=0 transB:int=1"],
  MatMulFpQ4: ["1 | A B B_shape -> Y | blk_quant_type:int=1"],
  MatMulInteger16: ["1 | A B -> Y"],
  MatMulIntegerToFloat: ["1 | A B a_scale b_scale a_zero_point? b_zero_point? bias? -> Y"],
  MatMulNBits: [
    "1 | A B scales zero_points? g_idx? bias? -> Y | K:int! N:int! accuracy_level:int=0 bits:int=4 block_size:int! weight_prepacked:int=0",
  ],
  MatMulNBitsMlp: [
    "1 | A skip? norm_scale? gate_B gate_scales gate_bias? up_B up_scales up_bias? -> Y input_skip_bias_sum? | K:int! N:int! accuracy_level:int=0 activation:string! bits:int=4 block_size:int! epsilon:float=1e-05",
  ],
  MatMulNBitsQkv: [
    "1 | A skip? norm_scale q_B q_scales q_bias? k_B k_scales k_bias? v_B v_scales v_bias? -> Q K V input_skip_bias_sum? | K:int! Nkv:int! Nq:int! accuracy_level:int=0 bits:int=4 block_size:int! epsilon:float=1e-06",
  ],
  MaxpoolWithMask: [
    "1 | X M -> Y | auto_pad:string=NOTSET kernel_shape:ints pads:ints storage_order:int=0 strides:ints",
  ],
  MoE: [
    "1 | input router_probs fc1_experts_weights fc1_experts_bias? fc2_experts_weights fc2_experts_bias? fc3_experts_weights? fc3_experts_bias? -> output | activation_alpha:float=1 activation_beta:float=0 activation_type:string=relu k:int=1 normalize_routing_weights:int=0 swiglu_fusion:int=0 swiglu_limit:float use_sparse_mixer:int=0",
  ],
  MulInteger: ["1 | A A_zero_point? B B_zero_point? -> C"],
  MultiHeadAttention: [
    "1 | query key? value? bias? key_padding_mask? attention_bias? past_key? past_value? past_sequence_length? cache_indirection? -> output present_key? present_value? qk? | mask_filter_value:float num_heads:int! scale:float unidirectional:int=0",
  ],
  MurmurHash3: ["1 | X -> Y | positive:int=1 seed:int=0"],
  NGramHashMapping: [
    "1 | input_ids multipliers vocab_sizes past_ids? -> hash_ids present_ids? | max_ngram_size:int! n_head_per_ngram:int! pad_id:int!",
  ],
  NGramRepeatBlock: ["1 | input_ids scores -> scores_out | ngram_size:int!"],
  NhwcConv: [
    "1 | X W B? -> Y | auto_pad:string=NOTSET dilations:ints group:int=1 kernel_shape:ints pads:ints strides:ints",
  ],
  NhwcFusedConv: [
    "1 | X W B? Z? -> Y | activation:string activation_params:floats auto_pad:string=NOTSET dilations:ints group:int=1 kernel_shape:ints pads:ints strides:ints",
  ],
  NhwcMaxPool: [
    "1 | x -> y | auto_pad:string=NOTSET ceil_mode:int=0 dilations:ints kernel_shape:ints! pads:ints strides:ints",
  ],
  PackedAttention: [
    "1 | input weights bias token_offset cumulative_sequence_length attention_bias? -> output | num_heads:int! qkv_hidden_sizes:ints scale:float",
  ],
  PackedMultiHeadAttention: [
    "1 | query key? value? bias? token_offset cumulative_sequence_length attention_bias? -> output | mask_filter_value:float num_heads:int! scale:float",
  ],
  Pad: ["1 | data pads value? -> output | mode:string=constant"],
  PagedAttention: [
    "1 | query key? value? key_cache value_cache? cumulative_sequence_length past_seqlens block_table cos_cache? sin_cache? slot_mapping? head_sink? q_norm_weight? k_norm_weight? k_scale? v_scale? attention_metadata? -> output key_cache_out? value_cache_out? | do_rotary:int is_causal:int=1 k_cache_dtype:string= k_quant_type:string=NONE kv_cache_layout:string=SEPARATE kv_num_heads:int! local_window_size:int=-1 num_heads:int! qk_norm_epsilon:float rotary_interleaved:int rotary_offset:int scale:float softcap:float v_cache_dtype:string= v_head_size:int v_quant_type:string=NONE",
  ],
  QAttention: [
    "1 | input weight bias input_scale weight_scale mask_index? input_zero_point? weight_zero_point? past? -> output present? | do_rotary:int mask_filter_value:float num_heads:int! past_present_share_buffer:int scale:float unidirectional:int=0",
  ],
  QEmbedLayerNormalization: [
    "1 | input_ids segment_ids? word_embedding_quant position_embedding_quant segment_embedding? gamma_quant beta_quant mask? word_embedding_scale position_embedding_scale segment_embedding_scale? gamma_scale beta_scale word_embedding_zero_point position_embedding_zero_point segment_embedding_zero_point? gamma_zero_point beta_zero_point -> layernorm_out mask_index_out | epsilon:float=1e-12",
  ],
  QGemm: [
    "1 | A a_scale a_zero_point B b_scale b_zero_point C? y_scale? y_zero_point? -> Y | alpha:float=1 transA:int=0 transB:int=0",
  ],
  QLinearAdd: ["1 | A A_scale A_zero_point? B B_scale B_zero_point? C_scale C_zero_point? -> C"],
  QLinearAveragePool: [
    "1 | X x_scale x_zero_point? y_scale y_zero_point? -> Y | auto_pad:string=NOTSET ceil_mode:int=0 channels_last:int=0 count_include_pad:int=0 kernel_shape:ints! pads:ints strides:ints",
  ],
  QLinearConcat: ["1 | Y_scale Y_zero_point inputs+ -> Y | axis:int!"],
  QLinearConv: [
    "1 | x x_scale x_zero_point w w_scale w_zero_point y_scale y_zero_point B? -> y | auto_pad:string=NOTSET channels_last:int=0 dilations:ints group:int=1 kernel_shape:ints pads:ints strides:ints",
  ],
  QLinearGlobalAveragePool: ["1 | X x_scale x_zero_point y_scale y_zero_point -> Y | channels_last:int=0"],
  QLinearLeakyRelu: ["1 | X X_scale X_zero_point? Y_scale Y_zero_point? -> Y | alpha:float=0.01"],
  QLinearMul: ["1 | A A_scale A_zero_point? B B_scale B_zero_point? C_scale C_zero_point? -> C"],
  QLinearReduceMean: [
    "1 | data data_scale data_zero_point? reduced_scale reduced_zero_point? -> reduced | axes:ints! keepdims:int!",
  ],
  QLinearSigmoid: ["1 | X X_scale X_zero_point? Y_scale Y_zero_point? -> Y"],
  QLinearSoftmax: ["1 | X X_scale x_zero_point? y_scale y_zero_point -> Y | axis:int=-1 opset:int!"],
  QLinearWhere: ["1 | condition X x_scale x_zero_point Y y_scale y_zero_point z_scale z_zero_point -> Z"],
  QMoE: [
    "1 | input router_probs fc1_experts_weights fc1_scales? fc1_experts_bias? fc2_experts_weights fc2_scales? fc2_experts_bias? fc3_experts_weights? fc3_scales? fc3_experts_bias? fc1_zero_points? fc2_zero_points? fc3_zero_points? router_weights? fc1_global_scale? fc2_global_scale? fc1_act_scale? fc2_act_scale? fc1_act_block_scale? fc2_act_block_scale? -> output | activation_alpha:float=1 activation_beta:float=0 activation_type:string=relu block_size:int expert_weight_bits:int=4 k:int=1 normalize_routing_weights:int=0 quant_type:string=int swiglu_fusion:int=0 swiglu_limit:float use_sparse_mixer:int=0 weights_prepacked:int=-1",
  ],
  QOrderedAttention: [
    "1 | input scale_input scale_Q_gemm scale_K_gemm scale_V_gemm Q_weight K_weight V_weight scale_Q_weight scale_K_weight scale_V_weight Q_bias K_bias V_bias scale_QKT_gemm? scale_QKT_softmax? scale_values_gemm mask_index? past? attention_bias? -> output | num_heads:int! order_input:int! order_output:int! order_weight:int! qkv_hidden_sizes:ints unidirectional:int=0",
  ],
  QOrderedGelu: ["1 | X scale_X scale_Y -> Y | order_X:int order_Y:int"],
  QOrderedLayerNormalization: [
    "1 | X scale_X scale B? scale_Y -> Y | axis:int=-1 epsilon:float=1e-05 order_X:int=1 order_Y:int=1",
  ],
  QOrderedLongformerAttention: [
    "1 | input scale_input weight scale_weight bias scale_bias scale_qkv_gemm mask global_weight scale_global_weight global_bias scale_global_gemm global scale_output -> output | num_heads:int! order_global_weight:int! order_input:int! order_output:int! order_weight:int! window:int!",
  ],
  QOrderedMatMul: ["1 | A scale_A B scale_B scale_Y bias? C? scale_C? -> Y | order_A:int! order_B:int! order_Y:int!"],
  QuantizeBFP: ["1 | x -> y shape strides | bfp_type:int! block_dim:int=-1"],
  QuantizeLinear: ["1 | x y_scale y_zero_point? -> y | axis:int"],
  QuantizeWithOrder: ["1 | input scale_input -> output | order_input:int! order_output:int!"],
  QuickGelu: ["1 | X -> Y | alpha:float=1.702"],
  Range: ["1 | start limit delta? -> Y"],
  ReduceSumInteger: ["1 | data -> reduced | axes:ints! keepdims:int!"],
  RelativePositionBias: ["1 | bias_table query_length key_length -> output | is_bidirectional:int=0 max_distance:int!"],
  RemovePadding: ["1 | input sequence_token_count -> output token_offset cumulated_seq_len max_seq_len"],
  RestorePadding: ["1 | input token_offset -> output"],
  Rfft: ["1 | X -> Y | normalized:int=0 onesided:int=1 signal_ndim:int=1"],
  RotaryEmbedding: [
    "1 | input position_ids cos_cache sin_cache -> output | interleaved:int is_packed_batching:int num_heads:int rotary_embedding_dim:int scale:float",
  ],
  SampleOp: ["1 | X -> Y"],
  Sampling: [
    "1 | input_ids max_length min_length? repetition_penalty? vocab_mask? prefix_vocab_mask? attention_mask? presence_mask? seed? -> sequences filtered_logits? | custom:int=0 decoder:graph! decoder_start_token_id:int=-1 encoder:graph eos_token_id:int! filter_value:float=-1e+20 init_decoder:graph min_tokens_to_keep:int=0 model_type:int=0 no_repeat_ngram_size:int=0 pad_token_id:int! presence_penalty:float=0 temperature:float=1 top_p:float=0 vocab_size:int=-1",
  ],
  SkipGroupNorm: [
    "1 | X gamma beta skip bias? -> Y S? | activation:int! channels_last:int=1 epsilon:float=1e-05 groups:int!",
  ],
  SkipLayerNormalization: [
    "1 | input skip gamma beta? bias? -> output mean? inv_std_var? input_skip_bias_sum? | epsilon:float=1e-12",
  ],
  SkipSimplifiedLayerNormalization: [
    "1 | input skip gamma bias? -> output mean? inv_std_var? input_skip_bias_sum? | epsilon:float=1e-12",
  ],
  Snpe: ["1 | inputs+ -> outputs+ | DLC:string! notes:string snpe_version:string target_device:string"],
  SparseAttention: [
    "1 | query key? value? past_key past_value block_row_indices block_col_indices total_sequence_length key_total_sequence_lengths cos_cache? sin_cache? -> output present_key present_value | do_rotary:int kv_num_heads:int! num_heads:int! rotary_interleaved:int scale:float sparse_block_size:int!",
  ],
  SparseToDenseMatMul: ["1 | A B -> Y | alpha:float=1 transA:int=0 transB:int=0"],
  Tokenizer: ["1 | X -> Y | mark:int! mincharnum:int! pad_value:string! separators:strings tokenexp:string"],
  TorchEmbedding: ["1 | weight indices padding_idx? scale_grad_by_freq? -> Y"],
  TransposeMatMul: ["1 | A B -> Y | alpha:float=1 transA:int=0 transB:int=0"],
  Trilu: ["1 | X k? -> Y | upper:int=1"],
  UnfoldTensor: ["1 | input -> output | dim:int=-1 size:int! step:int=1"],
  Unique: ["1 | x -> y idx counts"],
  VarlenCausalConvWithState: [
    "1 | input weight cumulative_sequence_length bias? initial_state capture_count? -> output final_state state_update? | activation:string=none dilation:int=1 state_update_capacity:int=0",
  ],
  WhisperBeamSearch: [
    "1 | input_ids max_length min_length? num_beams num_return_sequences length_penalty? repetition_penalty? vocab_mask? prefix_vocab_mask? attention_mask? decoder_input_ids? logits_processor? cross_qk_layer_head? extra_decoding_ids? temperature? -> sequences sequences_scores? scores? cross_qk? non_speech_probs? | beginning_timestamp_token_id:int decoder:graph! decoder_output_cross_qk:int decoder_start_token_id:int=-1 early_stopping:int=0 encoder:graph eos_token_id:int! init_decoder:graph model_type:int=2 no_repeat_ngram_size:int=0 no_speech_token_id:int no_timestamps_token_id:int pad_token_id:int! start_of_lm_token_id:int transcribe_token_id:int translate_token_id:int vocab_size:int=-1",
  ],
  WordConvEmbedding: ["1 | Sequence W B C -> Y | char_embedding_size:int conv_window_size:int embedding_size:int"],
} as const satisfies Readonly<Record<string, readonly string[]>>;

/** The operators of domain com.microsoft.nchwc: convolution and pooling in the blocked layout of the CPU provider. */
export const nchwcOperators = {
  AveragePool: [
    "1 | X -> Y | auto_pad:string=NOTSET ceil_mode:int=0 count_include_pad:int=0 dilations:ints kernel_shape:ints! pads:ints strides:ints",
  ],
  Conv: [
    "1 | X W B? Sum? -> Y | activation:string activation_params:floats auto_pad:string=NOTSET dilations:ints group:int=1 kernel_shape:ints pads:ints strides:ints",
  ],
  GlobalAveragePool: ["1 | X -> Y"],
  GlobalMaxPool: ["1 | X -> Y"],
  MaxPool: [
    "1 | X -> Y | auto_pad:string=NOTSET ceil_mode:int=0 dilations:ints kernel_shape:ints! pads:ints storage_order:int=0 strides:ints",
  ],
  ReorderInput: ["1 | X -> Y | channels_last:int=0"],
  ReorderOutput: ["1 | X -> Y | channels:int=0 channels_last:int=0"],
  Upsample: ["1 | X -> Y | coordinate_transformation_mode:string=asymmetric mode:string=nearest scales:ints"],
} as const satisfies Readonly<Record<string, readonly string[]>>;

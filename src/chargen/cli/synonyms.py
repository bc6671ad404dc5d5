"""What users of nanoGPT, char-rnn, torch-rnn, Keras, textgenrnn, Hugging Face and vLLM type, and what to type instead.

This module is long because it is a table. It maps what to write to the words that mean it. In what to write, `{}` is
the value that was typed. A word may include a value, such as `device=cpu`. Words are compared in lower case, without
leading dashes, and with underscores.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FALSE = ("false", "0", "no", "off", "none")
"""Values that switch a flag off."""

SWITCHES = (*FALSE, "true", "1", "yes", "on")
"""Values of a flag."""


def normalized(word: str) -> str:
    """Return a word without leading dashes, in lower case and with underscores."""
    return word.lstrip("-").replace("-", "_").lower()


_NAMES = frozenset(
    f"{key}={{}}"
    for key in ("corpus", "logger", "model", "model.cell", "corpus.unit", "trainer.accelerator", "trainer.precision")
) | {"--precision {}", "--unknown {}"}
"""Settings and options whose value is a name, all of which are in lower case."""


def filled(instead: str, value: str) -> str:
    """Return what to write with the value that was typed, quoted as a shell needs it.

    Args:
        instead: what to write; `{}` is the value.
        value: the value; "" if none was typed.
    """
    if instead in _NAMES:
        value = value.lower()
    if instead == "corpus={}" and (path_exists(value) or re.search(r"[./\\]", value)):
        instead = "{}"
    elif instead == "trainer.max_time={}" and value.isdecimal():
        value += "s"
    elif instead == "trainer.accelerator={}" and (number := re.fullmatch(r"(?:cuda|gpu)?:?(\d+)", value)):
        instead, value = "trainer.accelerator=gpu trainer.devices=[{}]", number[1]
    missing = "RUN" if instead.startswith("resume=") else "…"
    parts = (part.replace("{}", value or missing) for part in instead.split())
    return " ".join(part if "…" in part else shlex.quote(part) for part in parts)


@dataclass(frozen=True)
class Advice:
    """What to tell about a word.

    Attributes:
        typed: what was typed, with its value.
        instead: what to write instead; "" if there is no such thing.
        reason: why there is no such thing; "" if there is.
    """

    typed: str
    instead: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Synonyms:
    """The words of a command.

    Attributes:
        write: what to write, by words separated by spaces.
        missing: why there is no such thing, by words separated by spaces.
    """

    write: Mapping[str, str]
    missing: Mapping[str, str]

    @cached_property
    def words(self) -> dict[str, tuple[str, str]]:
        """What to write and the reason, one of which is "", by word."""
        found = {word: (instead, "") for instead, words in self.write.items() for word in words.split()}
        return found | {word: ("", reason) for reason, words in self.missing.items() for word in words.split()}

    def takes_value(self, word: str, following: str) -> bool:
        """Tell whether the word that follows an option is its value, not an option, a setting or a file."""
        if re.match(r"-[^\d.]|[^/]*=", following):
            return False
        words, name = self.words, normalized(word)
        if f"{name}={following.lower()}" in words:
            return True
        instead, reason = words.get(name, ("", ""))
        is_switch = following.lower() in SWITCHES and bool(instead)
        return "{}" in instead or is_switch or (bool(reason) and not path_exists(following))

    def advice(self, typed: str, word: str, value: str) -> Advice | None:
        """Return what to tell about a word; None if it is not in the table.

        Args:
            typed: what was typed, for the message.
            word: the option or the name of the setting.
            value: its value; "" if it has none.
        """
        words, name = self.words, normalized(word)
        found = words.get(f"{name}={value.lower()}") or words.get(name)
        if found is None:
            return None
        instead, reason = found
        if instead and "{}" not in instead and f"{name}={value.lower()}" not in words and value.lower() in FALSE:
            return Advice(typed, reason="leave it out")
        return Advice(typed, filled(instead, value), reason)

    def nearest(self, word: str, known: Iterable[str]) -> str:
        """Return `; did you mean ...?` with the nearest of the known options or settings, or ""."""
        targets = {one: re.sub("[= ]?{}", "", instead) for one, (instead, _) in self.words.items() if "=" not in one}
        spelled = {one: target for one, target in targets.items() if target} | {normalized(one): one for one in known}
        close = difflib.get_close_matches(normalized(word), spelled, n=1, cutoff=0.7)
        return f"; did you mean {spelled[close[0]]}?" if close else ""


def path_exists(path: str) -> bool:
    """Tell whether there is a file or a folder."""
    try:
        return Path(path).exists()
    except OSError:  # the name is too long for a path
        return False


def message(found: Iterable[Advice]) -> str:
    """Return one line about several words: first those that are written otherwise."""
    found = list(found)
    renamed = [one for one in found if one.instead]
    parts = [f"{one.typed}: {one.reason}" for one in found if one.reason]
    if renamed:
        typed, instead = (" ".join(words) for words in zip(*((one.typed, one.instead) for one in renamed), strict=True))
        parts.insert(0, f"{typed}: write {instead}")
    return "; ".join(parts)


TRAIN = Synonyms(
    {
        "trainer.max_epochs={}": "epoch epochs max_epoch max_epochs n_epochs nb_epoch num_epochs num_train_epochs "
        "train_epochs n_epoch nepochs nepoch num_epoch nb_epochs no_epochs",
        "trainer.max_steps={}": "iterations iters max_iter max_iters max_steps max_train_steps max_updates n_iters "
        "num_iters num_steps num_train_steps num_updates steps total_steps train_steps updates "
        "train_iters num_iterations n_iterations max_iterations train_iterations training_steps num_training_steps",
        "trainer.max_time={}": "duration max_time time time_limit",
        "trainer.max_time={}h": "hours max_hours",
        "trainer.max_time={}m": "max_minutes minutes",
        "trainer.max_time={}s": "max_seconds seconds timeout",
        "sequence_length={}": "block_size bptt context_length context_size ctx_len max_seq_len max_seq_length maxlen "
        "n_ctx num_unroll_steps seq_len seq_length sequence_len unroll window window_size "
        "seqlen seqlength chunk_size chunk_len chunk_length n_steps model_max_length max_model_len",
        "batch_size={}": "batch batches batchsize bs minibatch_size per_device_train_batch_size "
        "per_gpu_train_batch_size train_batch_size num_seqs n_seqs",
        "seed={}": "manual_seed random_seed random_state rng_seed seed_everything",
        "run_dir={}": "checkpoint_dir checkpoint_name checkpoint_path ckpt_dir exp_dir log_dir logdir model_dir o "
        "out out_dir output output_dir result_dir rundir save save_dir save_path savefile "
        "model_folder out_folder output_folder save_folder checkpoint_folder",
        "resume={}": "checkpoint ckpt ckpt_path load load_checkpoint load_model model_checkpoint restore "
        "resume_from resume_from_checkpoint resume_path",
        "init={}": "from_pretrained init_from init_weights initial_weights model_name_or_path pretrained "
        "pretrained_model pretrained_model_name_or_path start_from warm_start",
        "resume=RUN": "continue init_from=latest init_from=resume resume=true",
        "{}": "data data_file data_path dataset=text dataset_path file filename files input input_file input_h5 "
        "input_json input_txt path src text text_file train_data train_file train_text training_file txt",
        "corpus={}": "corpus dataset dataset_name",
        "corpus=tinyshakespeare": "dataset=shakespeare dataset=shakespeare_char dataset=tiny_shakespeare",
        "corpus.encoding={}": "charset encoding",
        "corpus.field={}": "column content_column dataset_text_field field text_column text_column_name text_field "
        "text_key",
        "corpus.vocabulary={}": "vocab_file vocabulary",
        "corpus.validation_fraction={}": "eval_split test_frac test_fraction test_size test_split val_frac "
        "val_fraction val_size val_split validation_fraction validation_size validation_split",
        "corpus.unit=byte": "byte_level bytelevel bytes level=byte tokenizer=byte",
        "model.cell={}": "cell cell_type rnn_cell rnn_type rnntype unit_type",
        "model={}": "model model_size size",
        "model.cell=rnn": "rnn=rnn rnn=vanilla model=rnn model=simplernn model=vanilla rnn use_rnn",
        "model.cell=lstm": "lstm model=lstm rnn=lstm use_lstm",
        "model.cell=gru": "gru model=gru rnn=gru use_gru",
        "model.hidden_size={}": "d_model dim hidden hidden_dim hidden_size hidden_units hiddens n_embd n_hidden "
        "n_units nhid num_hidden num_units rnn_hidden rnn_size rnn_units state_size units width "
        "lstm_size lstm_units lstm_hidden lstm_hidden_size gru_size gru_units",
        "model.num_layers={}": "depth layer layers n_layer n_layers nlayers num_hidden_layers num_layer num_layers "
        "rnn_layers stack",
        "model.embedding_size={}": "dim_embeddings emb_size embed_dim embed_size embedding embedding_dim "
        "embedding_size emsize n_embed wordvec_size "
        "emb emb_dim embed embedding_dims embeddings",
        "model.dropout={}": "drop drop_prob dropout dropout_rate p_dropout pdrop",
        "model.weight_dropout={}": "recurrent_dropout rnn_dropout wdrop weight_drop weight_dropout",
        "model.residual=true": "residual residuals skip_connections use_residual",
        "optimizer.learning_rate={}": "initial_learning_rate initial_lr learning_rate learningrate lr "
        "max_learning_rate max_lr step_size base_lr peak_lr",
        "optimizer.weight_decay={}": "l2 l2_reg wd wdecay weight_decay",
        "optimizer.beta1={}": "adam_beta1 beta1 beta_1",
        "optimizer.beta2={}": "adam_beta2 beta2 beta_2",
        "optimizer.momentum={}": "momentum sgd_momentum",
        "optimizer.warmup_updates={}": "num_warmup_steps warmup warmup_iters warmup_steps warmup_updates",
        "trainer.gradient_clip_val={}": "clip clip_grad clip_grad_norm clip_norm clip_value clipnorm clipvalue "
        "grad_clip gradient_clip gradient_clip_val gradient_clipping max_grad_norm max_norm grad_norm",
        "trainer.accumulate_grad_batches={}": "accumulate accumulate_grad_batches accumulation_steps grad_accum "
        "grad_accum_steps gradient_accumulation_steps",
        "trainer.val_check_interval={}": "eval_every eval_freq eval_interval eval_steps eval_val_every "
        "val_check_interval val_every val_interval valid_every validate_every validation_steps",
        "trainer.check_val_every_n_epoch={}": "gen_epochs",
        "trainer.limit_val_batches={}": "eval_batches eval_iters limit_val_batches max_eval_batches",
        "trainer.limit_train_batches={}": "limit_train_batches steps_per_epoch",
        "trainer.log_every_n_steps={}": "log_every log_every_n log_every_n_steps log_freq log_interval log_steps "
        "logging_steps print_every",
        "trainer.precision={}": "amp_level dtype precision",
        "trainer.precision=bf16-mixed": "amp amp=true bf16 dtype=bf16 dtype=bfloat16 mixed_precision "
        "mixed_precision=bf16",
        "trainer.precision=16-mixed": "dtype=float16 dtype=fp16 dtype=half fp16 half mixed_precision=fp16",
        "trainer.precision=32": "dtype=float32 dtype=fp32 fp32",
        "trainer.accelerator={}": "accelerator backend device",
        "trainer.accelerator=gpu": "cuda device=cuda device=cuda:0 device=gpu gpu gpus use_cuda use_gpu",
        "trainer.accelerator=cpu": "cpu cpuonly device=cpu gpu=-1 gpuid=-1 gpus=0 no_cuda no_gpu nocuda use_cpu",
        "trainer.accelerator=gpu trainer.devices=[{}]": "cuda_device gpu_id gpuid "
        "gpu=0 gpu=1 gpu=2 gpu=3 gpu=4 gpu=5 gpu=6 gpu=7",
        "trainer.deterministic=true": "deterministic",
        "trainer.profiler=simple": "profile profiler profiler=true",
        "+experiment={}": "experiment",
        "+experiment=smoke": "dry_run fast_dev_run smoke_test",
        "early_stopping={}": "early_stop early_stopping_patience patience",
        "save_every_updates={}": "checkpoint_every ckpt_every save_every save_freq save_interval save_steps",
        "sample_length={}": "gen_length sample_len sample_size",
        "sample_length=0": "no_sample no_samples",
        "logger={}": "report_to",
        "logger=wandb": "use_wandb wandb wandb_log",
        "logger=tensorboard": "report_to=tb tensorboard use_tensorboard",
        "trainer.enable_model_summary=true": "summary",
    },
    {
        "write optimizer.name=adamw or optimizer.name=sgd; the settings are optimizer.learning_rate, weight_decay, "
        "beta1, beta2 and momentum": (
            "adafactor adam adam_epsilon eps epsilon nesterov opt optim optimizer optimizer_type rmsprop sgd"
        ),
        "the learning rate falls by a cosine to optimizer.final_fraction of its highest value at the end of the run": (
            "decay_lr decay_rate gamma learning_rate_decay learning_rate_decay_after lr_decay lr_decay_every "
            "lr_decay_factor lr_decay_iters lr_decay_rate lr_schedule lr_scheduler lr_scheduler_type "
            "min_learning_rate min_lr scheduler warmup_ratio"
        ),
        "a recurrent network has no attention: leave it out": "attention attn_dropout attn_pdrop flash n_head "
        "n_heads n_kv_head nhead num_attention_heads num_heads rope",
        "the model writes from left to right, so it cannot read backwards: leave it out": (
            "bidirectional rnn_bidirectional"
        ),
        "the model reads characters, or bytes with corpus.unit=byte: leave it out": (
            "bpe char_level level tokenizer tokenizer_name vocab_size word word_level word_tokens words"
        ),
        "no layer has it: leave it out": "batch_norm batchnorm bias layer_norm layernorm tie_weights tied use_bias",
        "the compiled kernels are used by themselves: leave it out": "compile cudnn jit torch_compile use_compile",
        "windows are read in the order of the text, one after the other: leave it out": (
            "buffer_size dataloader_workers num_workers shuffle stride workers"
        ),
        "every new run begins a new model; resume=RUN continues one, init=RUN begins with its weights": (
            "init_from=gpt2 init_from=scratch model_name model_type new_model overwrite overwrite_output_dir reset"
        ),
        "last.ckpt and the best model.safetensors are always kept: leave it out": (
            "always_save_checkpoint keep load_best_model_at_end save_best_only save_last save_only save_strategy "
            "save_total_limit"
        ),
        "the loss is the cross-entropy in nats per character: leave it out": "criterion loss metric metrics",
        "chargen writes its own log in the run's folder: leave it out": "project quiet run_name v verbose "
        "wandb_project wandb_run_name",
        "validation scores one text in order, with a carried state: leave it out": (
            "eval_batch_size per_device_eval_batch_size val_batch_size valid_batch_size"
        ),
        "validation needs no switch; trainer.val_check_interval=UPDATES sets how often": (
            "do_eval eval_strategy evaluate_during_training evaluation_strategy print_val_loss"
        ),
        "training needs no switch: leave it out": "do_train mode=train train",
        "chargen evaluate RUN scores a run": "eval eval_only mode=eval test test_only",
        "chargen sample RUN writes with a run": "do_sample generate mode=sample num_samples "
        "primetext prompt sample start start_text temp temperature top_k top_p",
        "chargen doctor FILE measures the speed of each size": "benchmark benchmarking memory_benchmark "
        "speed_benchmark",
        "model.dropout is the fraction that is dropped: write model.dropout=1 minus this value": (
            "dropout_keep_prob input_keep_prob keep_prob output_keep_prob train_keep_prob"
        ),
        "the path of a text alone names it; data_dir=FOLDER is where downloads and encoded texts are kept": "data_dir",
        "chargen train runs on one device: leave it out": "backend=gloo backend=nccl ddp distributed "
        "local_rank multi_gpu nproc_per_node num_gpus tensor_parallel_size world_size",
        "chargen sample RUN --length NUMBER sets the length of a sample, sequence_length=NUMBER that of a window": (
            "length max_length max_new_tokens"
        ),
        "every setting is written as KEY=VALUE; +experiment=NAME takes those of conf/experiment/NAME.yaml": (
            "cfg_file config config_file config_path"
        ),
        "there is no OpenCL; trainer.accelerator=gpu uses CUDA: leave it out": "opencl use_opencl",
        "the whole text is read; trainer.limit_train_batches=WINDOWS shortens a pass": "max_train_samples",
        "the cell has its own; model.cell=rnn, lstm or gru chooses one: leave it out": (
            "activation recurrent_activation"
        ),
        "the state is always carried from window to window: leave it out": "stateful",
        "chargen has its own; early_stopping=NUMBER stops a run that gets no better: leave it out": "callbacks",
        "the suffix of a file says what it holds, and corpus.field=NAME which column is read: leave it out": (
            "is_csv line_delimited"
        ),
        "write optimizer.beta1=NUMBER optimizer.beta2=NUMBER": "adam_betas betas",
        "the rest of the text besides corpus.validation_fraction is for training: write that one": (
            "train_frac train_fraction train_size train_split"
        ),
        "name one text; corpus.validation_fraction=0.1 of it is held out": "eval_data eval_file test_data test_file "
        "val_data val_file valid_file validation_data validation_file",
    },
)
"""Of `chargen train`."""

_NO_DEVICE = "samples are written on the CPU: leave it out"

SAMPLE = Synonyms(
    {
        "{}": "checkpoint checkpoint_path ckpt ckpt_path file from in init_from load load_model m model model_file "
        "model_name model_name_or_path model_path out_dir path r resume run run_dir weights weights_path",
        "--prompt {}": "context initial_text p prefix prime prime_text primetext prompt_text seed_text seedtext "
        "start start_string start_text start_with starting_text text",
        "--prompt-file {}": "f input input_file primefile prompt_path start_file",
        "--length {}": "c characters chars count gen_length generate_length generation_length l len max_chars "
        "max_gen_length max_len max_length max_new max_new_tokens max_tokens n_chars n_predict nchars num_characters "
        "num_chars num_generate num_tokens predict_len sample_len sample_length size tokens",
        "--temperature {}": "creativity diversity t tau temp temperatures",
        "--temperature 0": "argmax do_sample=0 do_sample=false greedy sample=0 sample=false",
        "--temperature 1": "sample=1",
        "--top-k {}": "k topk",
        "--top-p {}": "nucleus p_nucleus top_prob topp",
        "--min-p {}": "minp p_min",
        "--seed {}": "manual_seed random_seed random_state rng_seed",
        "--num-samples {}": "batch_size n n_gen n_samples n_sequences num_outputs num_return_sequences num_sample "
        "num_sequences numsamples repeat samples",
        "--precision {}": "dtype",
        "--precision int8": "int8 load_in_8bit q8 quantize",
        "--precision float32": "dtype=float dtype=float32 dtype=fp32 float32 fp32",
        "--output {}": "destination filename o out out_file outfile output_file output_path save save_to to",
        "--ignore-eos": "ignore_end no_eos no_stop",
        "--novelty": "check_novelty copied plagiarism",
        "--unknown {}": "unk",
    },
    {
        "nothing is penalized; a higher --temperature, or --min-p 0.05, repeats less": (
            "frequency_penalty length_penalty no_repeat no_repeat_ngram_size presence_penalty repeat_penalty "
            "repetition_penalty"
        ),
        "one character is drawn at a time; --temperature 0 always takes the likeliest": (
            "beam beam_size beam_width beamsize best_of early_stopping num_beams pick typical_p width"
        ),
        "a sample ends at the end of an article or after --length characters; leave it out": (
            "eos eos_token eos_token_id stop stop_sequences stop_token stop_tokens stop_words"
        ),
        _NO_DEVICE: "accelerator compile cuda device gpu gpuid no_cuda tensor_parallel_size use_cpu use_cuda",
        "the number of threads follows from --num-samples: leave it out": "num_threads threads",
        "a recurrent network has no longest context: leave it out": "context_length context_size ctx_len ctx_size "
        "max_model_len n_ctx",
        "text is always written as it comes: leave it out": "do_sample sample=2 stream streaming",
        "chargen sample writes the text alone: leave it out": "interactive quiet return_as_list v verbose",
    },
)
"""Of `chargen sample`."""

EVALUATE = Synonyms(
    {
        "{}": "checkpoint checkpoint_path ckpt ckpt_path from init_from load load_model m model model_file "
        "model_name_or_path model_path out_dir r resume run run_dir weights",
        "--text {}": "data data_dir data_file data_path dataset eval_data eval_file f file files i in input "
        "input_file t test test_data test_file text_file txt val_data val_file valid_file validation_file",
        "--text -": "stdin",
        "--encoding {}": "charset corpus.encoding e enc",
        "--dynamic": "adapt adaptive dynamic_eval dynamic_evaluation dyneval",
        "--baselines": "all b baseline compare compressors ngrams",
        "--json {}": "json_file o out output output_dir output_file output_path report save save_to",
    },
    {
        "the scores are in nats and bits per character; 2 to the power of the bits is the perplexity": (
            "bits bpc loss metric metrics nats perplexity ppl"
        ),
        "the whole text is scored: leave it out": "batch_size block_size eval_batch_size eval_iters eval_steps iters "
        "limit max_eval_samples max_length max_steps n num_samples per_device_eval_batch_size seq_len seq_length "
        "sequence_length stride window window_size",
        "without --text FILE, the held-out part of the run's own text is scored: leave it out": (
            "do_eval eval_only split val validation"
        ),
        "the text is scored on the CPU: leave it out": "accelerator compile cuda device gpu gpuid no_cuda use_cpu "
        "use_cuda",
        "scores need no seed: leave it out": "seed temperature",
    },
)
"""Of `chargen evaluate`."""

PLOT = Synonyms({"--output {}": "file filename image o out outfile output_file picture png save save_to to"}, {})
"""Of `chargen plot`."""

DOCTOR = Synonyms(
    {
        "{}": "corpus.path data dataset f file files i in input input_file path t text",
        "--encoding {}": "charset corpus.encoding e enc",
    },
    {"chargen doctor examines every size of model and takes no settings: leave it out": "cell model size"},
)
"""Of `chargen doctor`."""

OTHERS = Synonyms({}, {})
"""Of the other commands: misspelt options only."""

COMMANDS = {
    **dict.fromkeys(("complete", "generate", "gen", "infer", "inference", "predict", "run", "write"), "sample"),
    **dict.fromkeys(("benchmark", "eval", "perplexity", "ppl", "score", "test", "valid", "validate"), "evaluate"),
    **dict.fromkeys(("fit", "finetune", "learn", "new"), "train"),
    **dict.fromkeys(("continue", "resume"), "train resume=RUN"),
    **dict.fromkeys(("curve", "draw", "graph"), "plot"),
    **dict.fromkeys(("analyze", "check"), "doctor TEXT"),
    **dict.fromkeys(("env", "version"), "info"),
    **dict.fromkeys(("list", "ls"), "runs"),
    "help": "--help",
}
"""What to write instead of the name of a command."""

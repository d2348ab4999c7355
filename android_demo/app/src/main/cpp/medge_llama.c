/*
 * llama.cpp for Kotlin: what org.medge.core.Native declares, and nothing more. Prompts, images and stopping are Kotlin's business.
 *
 * Uses no libc, so that a bare clang can build it for Android without the NDK: no allocation, no string function; every array comes from
 * the JVM. Compiled with MEDGE_LLAMA_RN against llama.rn's library (an older llama.cpp whose ggml symbols carry a prefix), without it
 * against a current one.
 */
#include <jni.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "llama.h"
#include "mtmd.h"

#ifdef MEDGE_LLAMA_RN
#define ggml_log_level lm_ggml_log_level
#define ggml_type lm_ggml_type
#endif
#define LOG_ERROR 4 /* GGML_LOG_LEVEL_ERROR; a longer message goes on with GGML_LOG_LEVEL_CONT */

/* A library without vision leaves these undefined: then Kotlin hears that this build reads text only. */
#pragma weak mtmd_bitmap_free
#pragma weak mtmd_bitmap_init
#pragma weak mtmd_context_params_default
#pragma weak mtmd_default_marker
#pragma weak mtmd_encode_chunk
#pragma weak mtmd_free
#pragma weak mtmd_get_output_embd
#pragma weak mtmd_init_from_file
#pragma weak mtmd_input_chunk_get_n_tokens
#pragma weak mtmd_input_chunk_get_type
#pragma weak mtmd_input_chunks_free
#pragma weak mtmd_input_chunks_get
#pragma weak mtmd_input_chunks_init
#pragma weak mtmd_input_chunks_size
#pragma weak mtmd_log_set
#pragma weak mtmd_tokenize

#define NATIVE(type, name) JNIEXPORT type JNICALL Java_org_medge_core_Native_##name
#define POINTER(type, value) ((type *) (intptr_t) (value))

static char message[1024]; /* the last error that llama.cpp has logged; one engine at a time lives in a process */
static size_t message_length;
static volatile bool stop;

static void keep_error(enum ggml_log_level level, const char * text, void * unused) {
    (void) unused;
    if (level != LOG_ERROR) return;
    while (*text && message_length < sizeof message) message[message_length++] = *text++;
}

static bool stopped(void * unused) {
    (void) unused;
    return stop;
}

NATIVE(void, start)(JNIEnv * env, jobject self) {
    llama_log_set(keep_error, NULL);
    if (mtmd_init_from_file) mtmd_log_set(keep_error, NULL);
    llama_backend_init();
}

/* What llama.cpp had to say since the last call, UTF-8. */
NATIVE(jbyteArray, message)(JNIEnv * env, jobject self) {
    jbyteArray out = (*env)->NewByteArray(env, (jsize) message_length);
    if (out) (*env)->SetByteArrayRegion(env, out, 0, (jsize) message_length, (const jbyte *) message);
    message_length = 0;
    return out;
}

/* Let a running evaluation end soon, or allow the next one. An image in the tower is not interrupted. */
NATIVE(void, setStop)(JNIEnv * env, jobject self, jboolean value) {
    stop = value;
}

/* `path` ends with a zero byte. 0 where the file can't be loaded. llama.cpp maps it, unless told otherwise. */
NATIVE(jlong, loadModel)(JNIEnv * env, jobject self, jbyteArray path, jboolean from_storage) {
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    params.use_extra_bufts = !from_storage; /* a repacked copy of the weights is memory that the system can't drop */
    jbyte * text = (*env)->GetByteArrayElements(env, path, NULL);
    if (!text) return 0;
    struct llama_model * model = llama_model_load_from_file((const char *) text, params);
    (*env)->ReleaseByteArrayElements(env, path, text, JNI_ABORT);
    return (jlong) (intptr_t) model;
}

NATIVE(void, freeModel)(JNIEnv * env, jobject self, jlong model) {
    llama_model_free(POINTER(struct llama_model, model));
}

/* 0 where memory does not suffice. */
NATIVE(jlong, newContext)(JNIEnv * env, jobject self, jlong model, jint positions, jint batch, jint threads, jint keys,
                          jint values) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t) positions;
    params.n_batch = params.n_ubatch = (uint32_t) batch;
    params.n_seq_max = 1;
#ifndef MEDGE_LLAMA_RN
    params.n_outputs_max = 1;
#endif
    params.n_threads = params.n_threads_batch = threads;
    params.swa_full = false; /* windowed layers keep their window only */
    /* Values in fewer bits ask for flash attention, which llama.cpp switches on by itself. */
    params.type_k = (enum ggml_type) keys;
    params.type_v = (enum ggml_type) values;
    params.no_perf = true;
    params.abort_callback = stopped;
    return (jlong) (intptr_t) llama_init_from_model(POINTER(struct llama_model, model), params);
}

NATIVE(void, freeContext)(JNIEnv * env, jobject self, jlong context) {
    llama_free(POINTER(struct llama_context, context));
}

NATIVE(void, setThreads)(JNIEnv * env, jobject self, jlong context, jint threads) {
    llama_set_n_threads(POINTER(struct llama_context, context), threads, threads);
}

NATIVE(jint, vocabularySize)(JNIEnv * env, jobject self, jlong model) {
    return llama_vocab_n_tokens(llama_model_get_vocab(POINTER(struct llama_model, model)));
}

/* Fills `ids` and gives their number; where there are more than it holds, minus the number. */
NATIVE(jint, tokenize)(JNIEnv * env, jobject self, jlong model, jbyteArray text, jboolean special, jintArray ids) {
    const struct llama_vocab * vocabulary = llama_model_get_vocab(POINTER(struct llama_model, model));
    jbyte * bytes = (*env)->GetByteArrayElements(env, text, NULL);
    jint * out = (*env)->GetIntArrayElements(env, ids, NULL);
    int32_t count = 0;
    if (bytes && out) {
        count = llama_tokenize(vocabulary, (const char *) bytes, (*env)->GetArrayLength(env, text), (llama_token *) out,
                               (*env)->GetArrayLength(env, ids), false, special);
    }
    if (out) (*env)->ReleaseIntArrayElements(env, ids, out, 0);
    if (bytes) (*env)->ReleaseByteArrayElements(env, text, bytes, JNI_ABORT);
    return count;
}

/* The bytes of one token; a character can be spread over several. */
NATIVE(jbyteArray, piece)(JNIEnv * env, jobject self, jlong model, jint token) {
    char bytes[512];
    int32_t count = llama_token_to_piece(llama_model_get_vocab(POINTER(struct llama_model, model)), token, bytes, sizeof bytes, 0, false);
    if (count < 0) count = 0;
    jbyteArray out = (*env)->NewByteArray(env, count);
    if (out) (*env)->SetByteArrayRegion(env, out, 0, count, (const jbyte *) bytes);
    return out;
}

NATIVE(jboolean, ends)(JNIEnv * env, jobject self, jlong model, jint token) {
    return llama_vocab_is_eog(llama_model_get_vocab(POINTER(struct llama_model, model)), token);
}

NATIVE(jboolean, isControl)(JNIEnv * env, jobject self, jlong model, jint token) {
    return llama_vocab_is_control(llama_model_get_vocab(POINTER(struct llama_model, model)), token);
}

/* Evaluate tokens behind what is evaluated; logits for the last. llama_decode's result: 0 is good, 2 is stopped. */
NATIVE(jint, evaluate)(JNIEnv * env, jobject self, jlong context, jintArray tokens) {
    jint * ids = (*env)->GetIntArrayElements(env, tokens, NULL);
    if (!ids) return -1;
    struct llama_batch batch = llama_batch_get_one((llama_token *) ids, (*env)->GetArrayLength(env, tokens));
    int32_t result = llama_decode(POINTER(struct llama_context, context), batch);
    (*env)->ReleaseIntArrayElements(env, tokens, ids, JNI_ABORT);
    return result;
}

/* The likeliest next token, the first of equals. */
NATIVE(jint, best)(JNIEnv * env, jobject self, jlong context, jint vocabulary) {
    const float * logits = llama_get_logits_ith(POINTER(struct llama_context, context), -1);
    if (!logits) return -1;
    jint best = 0;
    for (jint id = 1; id < vocabulary; id++) {
        if (logits[id] > logits[best]) best = id;
    }
    return best;
}

/* Forget everything from a position on; false where llama.cpp can't go back so far. */
NATIVE(jboolean, forget)(JNIEnv * env, jobject self, jlong context, jint from) {
    llama_memory_t memory = llama_get_memory(POINTER(struct llama_context, context));
    if (from > 0) return llama_memory_seq_rm(memory, 0, from, -1);
    llama_memory_clear(memory, true);
    return true;
}

/* The first position that windowed layers still hold. */
NATIVE(jint, oldest)(JNIEnv * env, jobject self, jlong context) {
    return llama_memory_seq_pos_min(llama_get_memory(POINTER(struct llama_context, context)), 0);
}

NATIVE(jint, window)(JNIEnv * env, jobject self, jlong model) {
    return llama_model_n_swa(POINTER(struct llama_model, model));
}

/* The vision tower; 0 where the file is none for this model, -1 where this library has no vision. */
NATIVE(jlong, openVision)(JNIEnv * env, jobject self, jlong model, jbyteArray path, jint threads) {
    if (!mtmd_init_from_file) return -1;
    struct mtmd_context_params params = mtmd_context_params_default();
    params.use_gpu = false;
    params.print_timings = false;
    params.n_threads = threads;
    params.warmup = false;
    jbyte * text = (*env)->GetByteArrayElements(env, path, NULL);
    if (!text) return 0;
    mtmd_context * vision = mtmd_init_from_file((const char *) text, POINTER(struct llama_model, model), params);
    (*env)->ReleaseByteArrayElements(env, path, text, JNI_ABORT);
    return (jlong) (intptr_t) vision;
}

NATIVE(void, closeVision)(JNIEnv * env, jobject self, jlong vision) {
    mtmd_free(POINTER(mtmd_context, vision));
}

/* What the language model sees of a side x side x 3 image of the tower's own size, (tokens, width); null where it can't be encoded. */
NATIVE(jfloatArray, encodeImage)(JNIEnv * env, jobject self, jlong vision, jlong model, jbyteArray rgb, jint side) {
    mtmd_context * tower = POINTER(mtmd_context, vision);
    jbyte * pixels = (*env)->GetByteArrayElements(env, rgb, NULL);
    if (!pixels) return NULL;
    mtmd_bitmap * bitmap = mtmd_bitmap_init((uint32_t) side, (uint32_t) side, (const unsigned char *) pixels);
    (*env)->ReleaseByteArrayElements(env, rgb, pixels, JNI_ABORT);
    mtmd_input_chunks * chunks = mtmd_input_chunks_init();
    const char * marker = mtmd_default_marker();
    struct mtmd_input_text text = {.text = marker, .add_special = false, .parse_special = true};
#ifndef MEDGE_LLAMA_RN
    while (marker[text.text_len]) text.text_len++;
#endif
    const mtmd_bitmap * bitmaps[] = {bitmap};
    jfloatArray out = NULL;
    if (mtmd_tokenize(tower, chunks, &text, bitmaps, 1) == 0) {
        for (size_t index = 0; index < mtmd_input_chunks_size(chunks); index++) {
            const mtmd_input_chunk * chunk = mtmd_input_chunks_get(chunks, index);
            if (mtmd_input_chunk_get_type(chunk) != MTMD_INPUT_CHUNK_TYPE_IMAGE || mtmd_encode_chunk(tower, chunk) != 0) continue;
            jsize count = (jsize) mtmd_input_chunk_get_n_tokens(chunk) * llama_model_n_embd_inp(POINTER(struct llama_model, model));
            out = (*env)->NewFloatArray(env, count);
            if (out) (*env)->SetFloatArrayRegion(env, out, 0, count, mtmd_get_output_embd(tower));
            break;
        }
    }
    mtmd_input_chunks_free(chunks);
    mtmd_bitmap_free(bitmap);
    return out;
}

/*
 * Evaluate an image's `count` tokens at a position. They see each other, as Gemma 3 was trained, so they must fit into one batch.
 * -2 where the numbers are not as many as the model takes: the tower that made them may be any file.
 */
NATIVE(jint, evaluateImage)(JNIEnv * env, jobject self, jlong context, jfloatArray embedding, jint count, jint position) {
    struct llama_context * engine = POINTER(struct llama_context, context);
    if ((*env)->GetArrayLength(env, embedding) != count * llama_model_n_embd_inp(llama_get_model(engine))) return -2;
    struct llama_batch batch = llama_batch_init(count, 0, 1);
    jfloat * values = (*env)->GetFloatArrayElements(env, embedding, NULL);
    int32_t result = -1;
    if (values) {
        llama_token * tokens = batch.token;
        batch.token = NULL;
        batch.embd = values;
        batch.n_tokens = count;
        for (int32_t index = 0; index < count; index++) {
            batch.pos[index] = position + index;
            batch.n_seq_id[index] = 1;
            batch.seq_id[index][0] = 0;
            batch.logits[index] = false;
        }
        llama_set_causal_attn(engine, false);
        result = llama_decode(engine, batch);
        llama_set_causal_attn(engine, true);
        batch.embd = NULL;
        batch.token = tokens;
        (*env)->ReleaseFloatArrayElements(env, embedding, values, JNI_ABORT);
    }
    llama_batch_free(batch);
    return result;
}

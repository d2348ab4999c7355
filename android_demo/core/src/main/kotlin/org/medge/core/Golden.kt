package org.medge.core

/** Golden inputs and embeddings that every bundle carries: a phone replays them and sees that it computes the same. */
object Golden {
    /** How near the golden images' embeddings come: what the vision tower's bound is held against. */
    fun imageCosine(encoder: Encoder): Float {
        val golden = SafeTensors(encoder.bundle.path("golden") ?: throw MedgeException(Problem.FILE_MISSING, "golden.safetensors"))
        val (count, side) = golden["pixels"].shape
        val bytes = golden["pixels"].raw()
        val size = side * side * 3
        val expected = rowsOf(golden["image_embeddings"])
        val cosines = (0 until count).map { index ->
            val pixels = Pixels.of(side, side, bytes.copyOfRange(index * size, (index + 1) * size))
            dot(encoder.embedResized(pixels), expected[index])
        }
        return encoder.bundle.manifest.towers.getValue("vision").golden.of(cosines)
    }

    /**
     * Replay what the bundle carries.
     *
     * @throws MedgeException the phone computes something else, with what and how far
     */
    fun replay(encoder: Encoder) {
        val manifest = encoder.bundle.manifest
        val golden = SafeTensors(encoder.bundle.path("golden") ?: throw MedgeException(Problem.FILE_MISSING, "golden.safetensors"))
        val (height, width) = golden["source"].shape
        val side = manifest.encoder!!.imageSize
        val source = Profile.of(manifest.images.profile).resize(Pixels.of(width, height, golden["source"].raw()), side).bytes()
        val expectedPixels = golden["pixels"].raw()
        val error = source.indices.maxOf { kotlin.math.abs((source[it].toInt() and 0xff) - (expectedPixels[it].toInt() and 0xff)) }
        demand(error <= 1, Problem.COMPUTES_DIFFERENTLY) { listOf("pixels differ by $error") }
        judge("image", imageCosine(encoder), manifest.towers.getValue("vision").golden)
        manifest.towers["text"]?.let { text ->
            val ids = golden["ids"].longs()
            val expected = rowsOf(golden["text_embeddings"])
            val length = golden["ids"].shape[1]
            val cosines = expected.indices.map { dot(encoder.embedIds(ids.copyOfRange(it * length, (it + 1) * length)), expected[it]) }
            judge("text", text.golden.of(cosines), text.golden)
        }
    }

    private fun judge(what: String, cosine: Float, bound: GoldenBound) {
        demand(cosine >= bound.cosine, Problem.COMPUTES_DIFFERENTLY) {
            listOf("$what embeddings, ${bound.statistic} cosine $cosine, at least ${bound.cosine} expected")
        }
    }

    private const val QUESTION = "What does this image show?" // what golden results of language models are answers to
    private const val LOGIT_MARGIN = 0.5f // between near ties, either may come first: another CPU rounds otherwise

    /**
     * Replay what a language model's bundle carries: its prompt, the image as the model sees it, and the first token of the answer.
     *
     * @throws MedgeException the phone writes another prompt, sees another image, or says something else
     */
    fun replay(engine: Engine, chat: Chat, bundle: Bundle) {
        val golden = SafeTensors(bundle.path("golden") ?: throw MedgeException(Problem.FILE_MISSING, "golden.safetensors"))
        val pixels = if ("pixels" in golden && engine.sees) golden["pixels"] else null
        if (pixels == null && "pixels" in golden) return // a build without vision: nothing that could be compared
        val image = pixels?.let { Pixels.of(it.shape[1], it.shape[0], it.raw()) }
        val prompt = chat.prompt(listOf(Turn(true, QUESTION, image?.let { java.io.File("golden") }))) { image!! }
        val ids = prompt.map { if (it is Token) it.id.toLong() else -1L }
        demand(ids == golden["prompt"].longs().toList(), Problem.COMPUTES_DIFFERENTLY) { listOf("another prompt: the model's chat template is not Gemma 3's") }
        if (image != null) {
            val seen = engine.embedding(prompt.first { it is Picture } as Picture)
            val cosine = dot(unitLength(seen), unitLength(golden["image_embedding"].floats()))
            judge("image", cosine, bundle.manifest.towers.getValue("projector").golden)
        }
        val likeliest = golden["tokens"].longs().map { it.toInt() }
        val logits = golden["logits"].floats()
        engine.generate(prompt, 1) { token ->
            val place = likeliest.indexOf(token)
            demand(place >= 0 && logits[place] >= logits[0] - LOGIT_MARGIN, Problem.COMPUTES_DIFFERENTLY) { listOf("another answer") }
            false
        }
    }
}

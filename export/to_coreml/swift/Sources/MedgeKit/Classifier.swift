import CoreML
import CoreVideo
import Foundation

/// What is wrong with a model, a bank or a calibration, in words for the user.
public struct MedgeError: LocalizedError {
    /// What is wrong, in English: what `localizedDescription` gives.
    public let errorDescription: String?
    init(_ text: String) { errorDescription = text }
}

/// The facts of a bundle that the app needs, as `medge export` writes them into `coreml/bank.json`.
public struct LabelBank: Codable, Sendable {
    /// Name of the package's input, an image.
    public let input: String
    /// Name of the package's output, the embedding.
    public let output: String
    /// Name of the preprocessing profile, one of ``Profile``'s raw values in a bundle that this version can read.
    public let profile: String
    /// Width and height of the package's input, in pixels.
    public let imageSize: Int
    /// What a cosine is multiplied with to become a logit.
    public let logitScale: Float
    /// What is added to a cosine times ``logitScale`` to become a logit.
    public let logitBias: Float
    /// The labels' names in their order; empty where the bundle was exported without labels.
    public let labels: [String]
    /// One embedding of D numbers and unit length for each label, in the labels' order.
    public let embeddings: [[Float]]

    /// Read a bank from its file.
    ///
    /// - Parameter url: the bundle's `coreml/bank.json`, or the app's copy of it.
    /// - Returns: the bank. Whether MedgeKit knows its profile is seen when a ``Classifier`` is made.
    /// - Throws: Foundation's error where the file can't be read, `DecodingError` where it is no bank.
    public static func load(_ url: URL) throws -> LabelBank {
        try JSONDecoder().decode(LabelBank.self, from: Data(contentsOf: url))
    }
}

/// One label with its scores, which are not calibrated: they order labels, and don't say how sure that is.
public struct Score: Sendable {
    /// The label's name.
    public let label: String
    /// Similarity of image and label, -1 to 1.
    public let cosine: Float
    /// The label's share, 0 to 1, of a sum of one over the labels; nil of a single label, which would be certain
    /// whatever the image shows.
    public let softmax: Float?
    /// 0 to 1, independent of the other labels.
    public let sigmoid: Float
}

/// Zero-shot classification with a MedSigLIP vision package. Not a medical device.
///
/// One classifier is used by one thread or task at a time.
public final class Classifier {
    /// The labels that images are scored for.
    public let bank: LabelBank
    private let model: MLModel
    private let profile: Profile

    /// Open a package.
    ///
    /// - Parameters:
    ///   - package: the compiled model, an `.mlmodelc`: Xcode and `MLModel.compileModel(at:)` make it of a package.
    ///   - bank: the labels and facts of the package's own bundle.
    ///   - configuration: how CoreML runs the package, its compute units among others.
    /// - Throws: ``MedgeError`` where MedgeKit does not know the bank's profile or the package takes no image; CoreML's
    ///   error where it can't open the package.
    public init(package: URL, bank: LabelBank, configuration: MLModelConfiguration = MLModelConfiguration()) throws {
        guard let profile = Profile(rawValue: bank.profile) else {
            throw MedgeError("This app does not know the preprocessing profile \(bank.profile).")
        }
        self.bank = bank
        self.profile = profile
        model = try MLModel(contentsOf: package, configuration: configuration)
        guard model.modelDescription.inputDescriptionsByName[bank.input]?.type == .image else {
            throw MedgeError("This model takes no image; export it with --coreml-input image.")
        }
    }

    /// Embed an image.
    ///
    /// - Parameter image: of any size that is not empty.
    /// - Returns: D numbers of unit length.
    /// - Throws: ``MedgeError`` where there is no memory for the image or the package gives no embedding; CoreML's
    ///   error where it can't compute.
    public func embed(_ image: RGBImage) throws -> [Float] {
        let buffer = try pixelBuffer(profile.resize(image, side: bank.imageSize))
        let input = try MLDictionaryFeatureProvider(dictionary: [bank.input: MLFeatureValue(pixelBuffer: buffer)])
        guard let array = try model.prediction(from: input).featureValue(for: bank.output)?.multiArrayValue else {
            throw MedgeError("This model gives no embedding.")
        }
        let raw = (0..<array.count).map { array[$0].floatValue }
        let length = max(raw.reduce(0) { $0 + $1 * $1 }.squareRoot(), 1e-12)
        return raw.map { $0 / length }
    }

    /// Score an image: ``embed(_:)``, then ``scores(_:)``.
    ///
    /// - Parameter image: of any size that is not empty.
    /// - Returns: one score for each label, in the bank's order.
    /// - Throws: what ``embed(_:)`` throws.
    public func classify(_ image: RGBImage) throws -> [Score] { scores(try embed(image)) }

    /// Decide which labels are present.
    ///
    /// - Parameters:
    ///   - embedding: D numbers of unit length, as ``embed(_:)`` gives them.
    ///   - calibration: of this package's scores of this bank's labels.
    /// - Returns: what the calibration says of the image. Without a calibration there is no decision.
    public func decide(_ embedding: [Float], by calibration: ScoreCalibration) -> Decision {
        let logits = scores(embedding).map { Double(bank.logitScale) * Double($0.cosine) + Double(bank.logitBias) }
        return calibration.decide(embedding: embedding, logits: logits)
    }

    /// Score an embedding.
    ///
    /// - Parameter embedding: D numbers of unit length, as ``embed(_:)`` gives them.
    /// - Returns: one score for each label, in the bank's order.
    public func scores(_ embedding: [Float]) -> [Score] {
        let cosines = bank.embeddings.map { zip($0, embedding).reduce(Float(0)) { $0 + $1.0 * $1.1 } }
        let logits = cosines.map { bank.logitScale * $0 + bank.logitBias }
        let greatest = logits.max() ?? 0
        let powers = logits.map { exp($0 - greatest) }
        let total = powers.reduce(0, +)
        return bank.labels.indices.map {
            Score(
                label: bank.labels[$0], cosine: cosines[$0], softmax: powers.count > 1 ? powers[$0] / total : nil,
                sigmoid: 1 / (1 + exp(-logits[$0])))
        }
    }
}

/// RGB bytes as the pixel buffer that an image input takes.
func pixelBuffer(_ image: RGBImage) throws -> CVPixelBuffer {
    var made: CVPixelBuffer?
    CVPixelBufferCreate(nil, image.width, image.height, kCVPixelFormatType_32BGRA, nil, &made)
    guard let buffer = made else { throw MedgeError("There is no memory for an image of \(image.width) pixels.") }
    CVPixelBufferLockBaseAddress(buffer, [])
    defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
    guard let base = CVPixelBufferGetBaseAddress(buffer) else { throw MedgeError("An image's memory can't be written.") }
    let stride = CVPixelBufferGetBytesPerRow(buffer)
    for y in 0..<image.height {
        let row = base.advanced(by: y * stride).assumingMemoryBound(to: UInt8.self)
        for x in 0..<image.width {
            let from = (y * image.width + x) * 3
            row[x * 4] = image.bytes[from + 2]
            row[x * 4 + 1] = image.bytes[from + 1]
            row[x * 4 + 2] = image.bytes[from]
            row[x * 4 + 3] = 255
        }
    }
    return buffer
}

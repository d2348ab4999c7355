import CoreML
import CoreVideo
import Foundation

/// What is wrong with a model or a bank, in words for the user.
public struct MedgeError: LocalizedError {
    public let errorDescription: String?
    init(_ text: String) { errorDescription = text }
}

/// The facts of a bundle that the app needs, as `medge export` writes them into `coreml/bank.json`.
public struct LabelBank: Codable {
    /// Names of the package's input and output.
    public let input: String
    public let output: String
    public let profile: String
    public let imageSize: Int
    public let logitScale: Float
    public let logitBias: Float
    public let labels: [String]
    /// One normalised embedding for each label.
    public let embeddings: [[Float]]

    public static func load(_ url: URL) throws -> LabelBank {
        try JSONDecoder().decode(LabelBank.self, from: Data(contentsOf: url))
    }
}

/// One label with its scores: `softmax` sums to one over the labels, and is nil of a single label, which would be certain whatever
/// the image shows; `sigmoid` is independent for each.
public struct Score {
    public let label: String
    public let cosine: Float
    public let softmax: Float?
    public let sigmoid: Float
}

/// Zero-shot classification with a MedSigLIP vision package. Not a medical device.
public final class Classifier {
    public let bank: LabelBank
    private let model: MLModel
    private let profile: Profile

    /// - Parameters:
    ///   - package: the compiled model (`MLModel.compileModel(at:)` compiles a `.mlpackage`).
    ///   - bank: the labels.
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

    /// The normalised embedding of an image of any size.
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

    /// Scores of all labels, in the bank's order.
    public func classify(_ image: RGBImage) throws -> [Score] { scores(try embed(image)) }

    /// What a calibration of this package's scores says of an embedding; without one, scores are not calibrated.
    public func decide(_ embedding: [Float], by calibration: ScoreCalibration) -> Decision {
        let logits = scores(embedding).map { Double(bank.logitScale) * Double($0.cosine) + Double(bank.logitBias) }
        return calibration.decide(embedding: embedding, logits: logits)
    }

    /// Scores of an embedding, in the bank's order.
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

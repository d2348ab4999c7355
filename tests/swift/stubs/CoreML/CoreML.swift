// As much of Apple's CoreML as MedgeKit calls. Nothing on Linux runs a CoreML package: in its place a model answers with the sums
// of the image's red, green and blue bytes, which show the order of the channels and where rows begin.

@_exported import CoreVideo
import Foundation

public final class MLModelConfiguration {
    public init() {}
}

public enum MLFeatureType { case image, multiArray }

public final class MLFeatureDescription {
    public let type: MLFeatureType
    init(type: MLFeatureType) { self.type = type }
}

public final class MLModelDescription {
    public let inputDescriptionsByName: [String: MLFeatureDescription] = ["image": MLFeatureDescription(type: .image)]
}

public final class MLMultiArray {
    let values: [Double]
    init(_ values: [Double]) { self.values = values }
    public var count: Int { values.count }
    public subscript(index: Int) -> NSNumber { NSNumber(value: values[index]) }
}

public final class MLFeatureValue {
    let pixelBuffer: CVPixelBuffer?
    public let multiArrayValue: MLMultiArray?

    public init(pixelBuffer: CVPixelBuffer) {
        self.pixelBuffer = pixelBuffer
        multiArrayValue = nil
    }

    init(_ array: MLMultiArray) {
        pixelBuffer = nil
        multiArrayValue = array
    }
}

public protocol MLFeatureProvider {
    func featureValue(for name: String) -> MLFeatureValue?
}

public final class MLDictionaryFeatureProvider: MLFeatureProvider {
    let dictionary: [String: Any]
    public init(dictionary: [String: Any]) throws { self.dictionary = dictionary }
    public func featureValue(for name: String) -> MLFeatureValue? { dictionary[name] as? MLFeatureValue }
}

public final class MLModel {
    public let modelDescription = MLModelDescription()

    public init(contentsOf url: URL, configuration: MLModelConfiguration) throws {}

    public static func compileModel(at url: URL) throws -> URL { url }

    public func prediction(from input: MLFeatureProvider) throws -> MLFeatureProvider {
        guard let buffer = input.featureValue(for: "image")?.pixelBuffer else { throw CocoaError(.featureUnsupported) }
        var sums = [0.0, 0.0, 0.0]
        for y in 0..<buffer.height {
            for x in 0..<buffer.width {
                for (channel, offset) in [2, 1, 0].enumerated() {
                    sums[channel] += Double(buffer.base.load(fromByteOffset: y * buffer.stride + x * 4 + offset, as: UInt8.self))
                }
            }
        }
        return try MLDictionaryFeatureProvider(dictionary: ["embedding": MLFeatureValue(MLMultiArray(sums))])
    }
}
